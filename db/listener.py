"""One LISTEN connection for a process, kept alive. Whoever caches asks ``listening`` before it trusts its cache."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import asyncpg

Callback: TypeAlias = Callable[[str], None]
PROBE_SECONDS: Final = 5.0
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_log = logging.getLogger("innkeeper.db")


class Listener:
    """Notifications by channel. After a lost connection every ``on_reconnect`` callback runs: news may be missed."""

    def __init__(self, url: str, name: str = "innkeeper") -> None:
        self._url = url
        self._name = name
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)
        self._reconnected: list[Callable[[], None]] = []
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        # A connection does one thing at a time, and refuses a second one.
        self._using = asyncio.Lock()

    @property
    def listening(self) -> bool:
        return self._up.is_set()

    async def wait(self) -> None:
        """Return once the connection listens."""
        await self._up.wait()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._stay_connected(), name="innkeeper-listener")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def listen(self, channel: str, callback: Callback) -> None:
        """Call ``callback(payload)`` for each notification on ``channel``, a plain lower-case identifier."""
        known = channel in self._callbacks
        self._callbacks[channel].append(callback)
        if known:
            return
        async with self._using:
            if self._connection is not None:
                await self._connection.add_listener(channel, self._deliver)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """``callback`` is called each time the connection is there again: what was said meanwhile was not heard."""
        self._reconnected.append(callback)

    def _deliver(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        for callback in self._callbacks[channel]:
            callback(str(payload))

    def _lose(self, lost: asyncio.Event) -> None:
        self._up.clear()
        lost.set()

    async def _stay_connected(self) -> None:
        attempt = 0
        while True:
            try:
                await self._listen_until_lost()
                attempt = 0
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("LISTEN connection lost (%s); caches are bypassed until it is back", type(error).__name__)
            self._up.clear()
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    async def _listen_until_lost(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=5.0,
            command_timeout=PROBE_SECONDS,
            server_settings={"application_name": self._name},
        )
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self._lose(lost))
        try:
            self._connection = connection
            async with self._using:
                for channel in list(self._callbacks):
                    await connection.add_listener(channel, self._deliver)
            for callback in self._reconnected:
                callback()
            self._up.set()
            while not lost.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(lost.wait(), PROBE_SECONDS)
                    break
                async with self._using:
                    await connection.fetchval("SELECT 1")
        finally:
            self._up.clear()
            self._connection = None
            connection.terminate()
