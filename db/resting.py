"""Connections that rest between two uses instead of going back to their pool, which takes longer than a short query.

As many rest as the pool keeps open in any case, and none while somebody waits for one.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from db.pools import Pool

    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]

ACQUIRE_SECONDS: Final = 5.0
RELEASE_SECONDS: Final = 2.0
"""How long the server has to confirm that what was cut off on a connection has ended."""
IN_A_ROW: Final = 1000
"""After so many uses one goes back, where the pool replaces connections that have done enough."""
REFUSED_SECONDS: Final = 1.0
_log = logging.getLogger("innkeeper.db")


class Resting:
    """Takes connections out of ``pool`` and gives them back. Everything else that does so must do it here."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._resting: list[Connection] = []
        self._waiting = 0
        self._uses = 0
        self._ended = False
        self._refused_at = float("-inf")

    def __len__(self) -> int:
        return len(self._resting)

    async def take(self, seconds: float = ACQUIRE_SECONDS) -> Connection:
        """A connection that nobody else has. Raises ``TimeoutError`` when there is none in time."""
        while self._resting:
            connection = self._resting.pop()
            if not connection.is_closed():
                return connection
            await self.pool.release(connection)
        self._waiting += 1
        try:
            return await self.pool.acquire(timeout=seconds)
        finally:
            self._waiting -= 1

    async def give_back(self, connection: Connection, *, fine: bool) -> None:
        """``fine``: its last query came to its end, and it is in no transaction. Raises ``TimeoutError``, with the
        connection closed, when the server does not end what was cut off."""
        self._uses += 1
        room = not (self._waiting or self._ended) and len(self._resting) < self.pool.get_min_size()
        if fine and room and self._uses % IN_A_ROW:
            self._resting.append(connection)
        else:
            await self.pool.release(connection, timeout=RELEASE_SECONDS)

    def refused(self, error: BaseException) -> None:
        """Tell the operator why the server does nothing: callers are not told, and ask again and again."""
        now = monotonic()
        if now >= self._refused_at + REFUSED_SECONDS:
            self._refused_at = now
            _log.error("the database refuses: %s", error)

    async def end(self) -> None:
        """Let nothing rest any more, before the pool is closed."""
        self._ended = True
        while self._resting:
            await self.pool.release(self._resting.pop())
