"""One transaction on a pooled connection: its beginning, its end, and what callers are told when the server is lost."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Final

import asyncpg
from opentelemetry import trace

from db.errors import AppError, lease_lost, unavailable
from db.pools import LOST, REFUSING
from db.spans import active

if TYPE_CHECKING:
    from db.resting import Connection, Resting
    from db.turns import Turn

LEASE_LOST_STATE: Final = "IK002"
READING: Final = "BEGIN READ ONLY"
UNDO_SECONDS: Final = 2.0
"""How long a server has to take back what failed or was cut off. A connection on which it does not is not used again,
and the server, which may stand still, finds out by itself."""
_tracer = trace.get_tracer("innkeeper.db")


class Transaction:
    """One transaction (none without ``begin``) on one pooled connection. ``commit``: how it ends when all went well.

    Losing the server inside it surfaces as ``AppError`` unavailable.
    """

    __slots__ = ("_begin", "_commit", "_connection", "_connections", "_span", "_turn")

    def __init__(
        self, connections: Resting, begin: str | None, turn: Turn | None = None, commit: str = "COMMIT"
    ) -> None:
        self._connections = connections
        self._begin = begin
        self._commit = commit
        self._turn = turn
        self._connection: Connection | None = None
        self._span: trace.Span = trace.INVALID_SPAN

    async def __aenter__(self) -> Connection:
        if active():
            self._span = _tracer.start_span("db.transaction")
        try:
            try:
                if self._turn is not None:
                    await self._turn.take()
                self._connection = connection = await self._connections.take()
                if self._begin is not None:
                    await connection.execute(self._begin)
            except BaseException:
                self._span.end()
                await self._release(broken=True, fine=False)
                raise
        except (*LOST, asyncpg.PostgresError) as error:
            self._explain(error)
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        connection = self._connection
        if connection is None:
            return
        broken = True
        try:
            if self._begin is not None and kind is None:
                await connection.execute(self._commit)
            elif self._begin is not None:
                await connection.execute("ROLLBACK", timeout=UNDO_SECONDS)
            # Another connection may lead to a server that also writes.
            broken = connection.is_closed() or isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        except (*LOST, asyncpg.PostgresError) as refused:
            # What had a meaning of its own keeps it: a lost connection takes the rest back.
            if not isinstance(error, (AppError, asyncio.CancelledError)):
                self._explain(refused)
                raise
        finally:
            self._span.end()
            await self._release(broken=broken, fine=kind is None)
        if isinstance(error, (*LOST, asyncpg.PostgresError)):
            self._explain(error)

    def _explain(self, error: BaseException) -> None:
        """Raise what ``error`` means to callers, if that is no defect."""
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError) and self._reads:
            return
        if isinstance(error, REFUSING):
            self._connections.refused(error)
        if isinstance(error, LOST):
            raise unavailable() from error
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == LEASE_LOST_STATE:
            raise lease_lost() from error

    @property
    def _reads(self) -> bool:
        return self._begin is not None and self._begin.startswith(READING)

    async def _release(self, *, broken: bool, fine: bool) -> None:
        connection, self._connection = self._connection, None
        try:
            if connection is None:
                return
            if broken:
                # A connection that was lost has been taken out of the pool already, and refuses every call.
                with contextlib.suppress(asyncpg.InterfaceError):
                    connection.terminate()
            # What does not come to an end in time is cut off by the pool, and is nobody's any more.
            with contextlib.suppress(*LOST):
                await self._connections.give_back(connection, fine=fine and not broken)
        finally:
            if self._turn is not None:
                self._turn.give_back()
