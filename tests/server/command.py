"""The real ``innkeeper`` command as a process of its own, from the outside: what it prints, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

import server
from tests.measured import MEASURED

SECONDS = 200
ROOT = str(Path(str(server.__file__)).parent.parent)
# Appended, not put first, and -P: what is tested is this tree, and nothing of it hides the standard library.
PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from server.cli import main; sys.exit(main())"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass
class Running:
    """A command that has said it is ready. ``ready`` is the line of ``--json``, or empty."""

    process: asyncio.subprocess.Process
    ready: dict[str, Any]

    async def call(self, tool: str, arguments: Mapping[str, object] | None = None, key: str | None = None) -> Any:
        """The answer of one ``tools/call``, as parsed JSON; raises for a status that is not 200."""
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments or {}},
        }
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(
                self.ready["mcp_url"],
                json=message,
                headers={
                    "authorization": f"Bearer {key or self.ready['api_key']}",
                    "accept": "application/json, text/event-stream",
                },
                timeout=SECONDS,
            )
        return answer.raise_for_status().json()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> Ended:
        """Send the signal and wait for the end. The output that was read before is not in it."""
        self.process.send_signal(number)
        return await ended(self.process)


async def spawn(
    *arguments: str | Path, cwd: Path, environ: Mapping[str, str] | None = None, measured: bool = False
) -> asyncio.subprocess.Process:
    """Start the command in ``cwd`` with a clean environment and ``environ``."""
    clean = {name: os.environ[name] for name in KEPT if name in os.environ} | (MEASURED if measured else {})
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        PROGRAM,
        ROOT,
        *map(str, arguments),
        cwd=cwd,
        env=clean | dict(environ or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run(*arguments: str | Path, cwd: Path, environ: Mapping[str, str] | None = None) -> Ended:
    """Run the command to its end."""
    return await ended(await spawn(*arguments, cwd=cwd, environ=environ, measured=True))


@asynccontextmanager
async def up(
    data: Path, *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None, measured: bool = False
) -> AsyncIterator[Running]:
    """``innkeeper up --json`` on a free port, from its line on stdout until it is stopped (here, if not before)."""
    stated = ("--json", "--port", "0", "--no-detect", "--data", data)
    process = await spawn("up", *stated, *arguments, cwd=cwd, environ=environ, measured=measured)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise AssertionError(f"up did not come up: {(await ended(process)).err}")
        yield Running(process, json.loads(line))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await ended(process)


@asynccontextmanager
async def noted(
    *arguments: str, cwd: Path, until: str, environ: Mapping[str, str] | None = None, measured: bool = False
) -> AsyncIterator[Running]:
    """A command that runs on, from the moment its stderr says ``until`` to its stop."""
    process = await spawn(*arguments, cwd=cwd, environ=environ, measured=measured)
    said = ""
    try:
        assert process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while until not in said:
                line = await process.stderr.readline()
                assert line, f"ended before it said {until!r}: {said}"
                said += line.decode()
        yield Running(process, {"said": said})
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await ended(process)


def descendants(pid: int) -> set[int]:
    """The processes below ``pid``, by Linux's own account."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
