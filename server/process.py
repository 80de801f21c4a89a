"""One long-running process: its signals, its readiness, and an end that lets running streams end first."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any

import sniffio
import uvicorn
from starlette.types import ASGIApp

from server.http.one_write import OneWriteProtocol
from server.refusal import Refusal

READY_SECONDS = 30.0
READY_INTERVAL = 0.02
LAST_WORDS_SECONDS = 6.0
INTERRUPTED = 130
COLLECT_AFTER = (20_000, 20, 20)
"""Objects made and not yet gone after which cycles are looked for, and how often of these among older ones too. A run
makes thousands that live as long as it does: Python's 700 would look through them a dozen times for each."""


class Stop:
    """What signals ask for: the first to end, the second to wait for nothing."""

    def __init__(self, main: asyncio.Task[int]) -> None:
        self.asked = asyncio.Event()
        self.urgent = asyncio.Event()
        self._main = main
        self._patient = False

    def ask(self) -> None:
        if self.asked.is_set():
            self.urgent.set()
            self._main.cancel()
        elif not self._patient:
            self._main.cancel()
        self.asked.set()

    @contextlib.contextmanager
    def patiently(self) -> Iterator[None]:
        """Meanwhile the first signal does not cancel the process: it waits for ``asked`` and ends by itself."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False


def run(main: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` to its exit code; a signal outside of ``stop.patiently()`` cancels it, and its clean-up runs."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_with_signals(main))


async def serve(
    app: ASGIApp,
    bound: socket.socket,
    stop: Stop,
    *,
    drain_seconds: float,
    on_ready: Callable[[], Awaitable[None]],
    on_stop: Callable[[], Awaitable[None]],
) -> None:
    """Serve until a stop is asked for, then let ``on_stop`` end what runs while open streams are read to their end.

    ``on_stop`` gets ``drain_seconds``; a stream that is open 6 s after that is cut. A second signal cuts all at once.
    """
    config = uvicorn.Config(
        app,
        http=OneWriteProtocol,
        ws="none",
        loop="none",
        lifespan="off",  # the services are opened and closed around the server, not by the application
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whom to believe is a setting: server/http/proxies.py
        timeout_graceful_shutdown=round(drain_seconds + LAST_WORDS_SECONDS),
    )
    server = _Server(config)
    with stop.patiently():
        serving = asyncio.create_task(server.serve(sockets=[bound]), name="serve")
        asked = asyncio.create_task(stop.asked.wait(), name="stop-asked")
        try:
            await _until_ready(server, serving, bound, stop)
            if not stop.asked.is_set():
                # What start-up made lives as long as the process: keep it out of every later collection.
                gc.collect()
                gc.freeze()
                gc.set_threshold(*COLLECT_AFTER)
                await on_ready()
            await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await on_stop()
            await asyncio.shield(serving)
        finally:
            asked.cancel()
            # Only reached with an open server when waiting is over: a second signal, or a crash.
            server.should_exit = server.force_exit = True
            await asyncio.wait([serving])


class _Server(uvicorn.Server):
    """Leaves signals to :class:`Stop`; uvicorn's own handlers would raise them again after the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _with_signals(main: Callable[[Stop], Coroutine[Any, Any, int]]) -> int:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("runs inside a task")
    stop = Stop(task)
    loop = asyncio.get_running_loop()
    # anyio asks sniffio a hundred times a run which event loop this is; told once, it does not go and find out.
    sniffio.thread_local.name = "asyncio"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.ask)
    try:
        return await main(stop)
    except asyncio.CancelledError:
        if not stop.asked.is_set():
            raise
        return INTERRUPTED


async def _until_ready(server: uvicorn.Server, serving: asyncio.Task[None], bound: socket.socket, stop: Stop) -> None:
    """Return once ``/readyz`` answers 200 over the socket, or the process is to stop."""
    async with asyncio.timeout(READY_SECONDS):
        while not stop.asked.is_set():
            if serving.done():
                await serving
                raise Refusal("The server ended before it was ready: see the log above.")
            if server.started and await _answers_ready(bound):
                return
            await asyncio.sleep(READY_INTERVAL)


async def _answers_ready(bound: socket.socket) -> bool:
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared with, not bound to)
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status = await reader.readline()
        await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return f" {HTTPStatus.OK.value} ".encode() in status


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
