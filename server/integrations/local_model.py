"""The small local model (text only, calls no tools): llama.cpp's server in a process of its own.

A process of its own, because its memory is not ours, its crash must not be ours, and it must not outlive us: it
watches a pipe whose other end is here. Start it as a background task, never before ready::

    local = LocalModel(data_dir, progress)
    local.start_soon()                      # fetches weights if need be, starts the process
    endpoint = await local.ready(60)        # a run that names "local" waits here
    await local.stop()
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

from agents.model_ports import LocalEndpoint
from db.errors import AppError
from server.integrations.local_weights import Progress, weights

DESCRIPTION = "SmolLM2 135M: small, text only, calls no tools"
NAME = "smollm2-135m"
CONTEXT = 4096  # tokens a conversation
SLOTS = 2  # conversations at the same time
MAX_TOKENS = 1024  # of one answer: small models sometimes do not find the end
START_SECONDS = 120.0
STOP_SECONDS = 1.5
RESTART_PAUSE = 15.0  # seconds between two starts of a process that died by itself

log = logging.getLogger("innkeeper.local_model")


def local_model_installed() -> bool:
    """Whether the extra ``local`` is installed (nothing is imported)."""
    return importlib.util.find_spec("xllamacpp") is not None


class LocalModel:
    """One local model a process. ``data_dir`` keeps fetched weights; ``progress`` gets lines for a person."""

    def __init__(self, data_dir: Path, progress: Progress = log.info) -> None:
        self._data_dir = data_dir
        self._progress = progress
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[LocalEndpoint] | None = None
        self._started_at = 0.0
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """The running process's id, for memory measurements and ``doctor``."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process is not None else None

    def start_soon(self) -> None:
        """Start in the background; the outcome is what :meth:`ready` returns or raises. Calling it twice is fine."""
        if self._starting is None:
            self._started_at = monotonic()
            self._starting = asyncio.create_task(self._start(), name="local-model")
            self._starting.add_done_callback(_note_failure)

    async def ready(self, timeout: float = 60.0) -> LocalEndpoint:
        """Wait until it answers, at most ``timeout`` seconds; starts it when nobody has, and again after a crash.

        Raises AppError ``model_unavailable`` (retryable while it is still starting) or ``model_not_configured``.
        """
        if self._stopped:
            raise AppError(
                "model_unavailable", 503, "The local model is stopping.", "Try again after the restart.", True, 5
            )
        died = self._starting is not None and self._starting.done() and self.pid is None
        if died and monotonic() - self._started_at > RESTART_PAUSE:
            self._starting = None
        self.start_soon()
        starting = self._starting
        if starting is None:
            raise RuntimeError("start_soon() leaves a task")
        try:
            async with asyncio.timeout(timeout):
                endpoint = await asyncio.shield(starting)
        except TimeoutError:
            raise AppError(
                "model_unavailable",
                503,
                "The local model is still starting.",
                "Try again in a few seconds; its first start fetches 93 MB.",
                True,
                5,
            ) from None
        if self.pid is None:
            raise _crashed()
        return endpoint

    async def stop(self) -> None:
        """Stop it within two seconds; it cannot be started again."""
        self._stopped = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        if self._starting is not None:
            await asyncio.wait([self._starting])
        await self._end_process()

    async def _start(self) -> LocalEndpoint:
        if not local_model_installed():
            raise AppError(
                "model_not_configured",
                409,
                "The local model is not installed.",
                'Run: pip install ".[local]"   and start Innkeeper again.',
            )
        path = await weights(self._data_dir, self._progress)
        key = secrets.token_urlsafe(32)
        try:
            url = await self._spawn(path, key)
        except BaseException:
            await self._end_process()
            raise
        self._progress(f"The local model is ready ({DESCRIPTION})")
        return LocalEndpoint(base_url=f"{url}/v1", name=NAME, api_key=key)

    async def _spawn(self, path: Path, key: str) -> str:
        config = {
            "weights": str(path),
            "name": NAME,
            "api_key": key,
            "context": CONTEXT,
            "slots": SLOTS,
            "threads": max(1, min(4, os.cpu_count() or 1)),
            "max_tokens": MAX_TOKENS,
        }
        # By file and with -P: nothing beside the script can shadow what it imports. A session of its own: Ctrl-C in a
        # terminal reaches only us, and streams may end before the model does.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(Path(__file__).with_name("llama_server.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process = process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started with pipes")
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(config).encode() + b"\n")
            await process.stdin.drain()
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            raise _crashed() from None
        if not line:
            raise _crashed()
        return str(json.loads(line)["url"])

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _crashed() -> AppError:
    return AppError(
        "model_unavailable",
        503,
        "The local model did not start, or it stopped by itself.",
        "Try again in a moment. If it stays, there may be too little free memory (it needs about 350 MB).",
        True,
        int(RESTART_PAUSE),
    )


def _note_failure(task: asyncio.Task[LocalEndpoint]) -> None:
    """Say it once here: perhaps no run ever asks for this model, and the reason would be lost."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("the local model did not start: %s", error)
