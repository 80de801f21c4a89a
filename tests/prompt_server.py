"""uvicorn as tests start it, hundreds of times."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

CLOSING_TURNS: Final = 3
"""Turns of the event loop that a connection which waits for no answer takes to close."""


class PromptServer(uvicorn.Server):
    """Says when it listens, leaves signals to pytest, and ends at once when there is nothing to wait for.

    uvicorn itself looks ten times a second whether it is to end, and then waits for a tenth of a second in any case.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._asked = asyncio.Event()

    def end(self, *, at_once: bool = False) -> None:
        """Ask for the end. ``at_once``: wait for no connection."""
        self.should_exit, self.force_exit = True, at_once
        self._asked.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        ticking = asyncio.create_task(super().main_loop())
        await self._asked.wait()
        ticking.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for bound in sockets or []:
            bound.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)
        await asyncio.wait_for(self._wait_tasks_to_complete(), self.config.timeout_graceful_shutdown)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
