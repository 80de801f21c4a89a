"""Connections and transactions: the only place where a caller becomes a tenant of the database.

A transaction begins as one caller: BEGIN carries credential, user, end user and project in the same round trip
(``SET LOCAL``, so nothing of it survives into the next use of the connection). The policies of every table ask for
exactly these; a transaction that names none sees no row.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias
from uuid import UUID

import asyncpg

from db.errors import AppError, unavailable
from db.listener import Listener
from db.origin import told
from db.pools import LOST, open_pool
from db.principal import Principal
from db.resting import Resting
from db.transaction import READING, Transaction
from db.turns import Turns

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from db.pools import Pool

    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]

IDLE_SECONDS: Final = 30
STANDSTILL_SECONDS: Final = 10
STANDSTILL_OF_RUNS_SECONDS: Final = 5
"""How long a transaction may wait for its process, which may stand still for hours; what it has locked must not keep
others from going on in its place. None of ours waits for anything but the database."""
WHOLE_SECONDS: Final = 60
WHOLE_OF_RUNS_SECONDS: Final = 15
"""How long it may take in all: the server does not count a wait within a statement, such as between its preparation
and its execution, as idle. A run's is shorter than the deadline of who carries the same call out again."""
OPS_SIZE: Final = 4
IN_LINE: Final = 1000


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Connections of a process: how many are open, how many of these are idle, and the most there may be."""

    size: int
    idle: int
    limit: int


class Database:
    """The application role's pool, the ops role's small one, and the listening connection of this process.

    One user has at most half of the pool at a time; what more they ask for waits in a line of their own. So a
    transaction must not be opened inside another one of the same caller.
    """

    def __init__(self, pool: Pool, listener: Listener, ops_url: str | None, major: int) -> None:
        self._connections = Resting(pool)
        self._major = major
        self._turns = Turns(max(1, pool.get_max_size() // 2), IN_LINE, what="transactions of a user")
        self._ops_url = ops_url
        self._ops: Resting | None = None
        self._ops_opening = asyncio.Lock()
        self.listener = listener

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        direct_url: str | None = None,
        ops_url: str | None = None,
        min_size: int = 2,
        max_size: int = 10,
        name: str = "innkeeper",
    ) -> Self:
        """Connect as the application role. ``direct_url`` is needed for LISTEN when ``url`` leads through a pooler.
        ``name``: what the listening connection of this process tells others of it (``pg_stat_activity``).

        Raises ``AppError`` (``unavailable``) when the server cannot be reached.
        """
        try:
            pool = await open_pool(url, min_size, max_size, statements=0 if direct_url else 1000)
            async with pool.acquire() as connection:
                major = connection.get_server_version().major
        except LOST as error:
            raise unavailable() from error
        listener = Listener(direct_url or url, name)
        await listener.start()
        return cls(pool, listener, ops_url, major)

    async def close(self) -> None:
        await self.listener.stop()
        for connections in (self._connections, self._ops):
            if connections is not None:
                with contextlib.suppress(*LOST):
                    async with asyncio.timeout(5.0):
                        await connections.end()
                        await connections.pool.close()
                connections.pool.terminate()

    def transaction(
        self, principal: Principal, project_id: UUID | None = None, *, read_only: bool = False
    ) -> Transaction:
        """``async with`` a connection inside one transaction as ``principal``, in ``project_id`` when one is chosen.

        Commits at the end, rolls back on any exception. Without a project only what policies give the user is seen.
        For a run's grant it raises ``AppError`` ``run_lease_lost`` unless the run lives under the grant's lease, at the
        beginning and, if anything was written, at the commit.
        """
        begin = READING if read_only or principal.read_only else "BEGIN"
        if principal.run_id is None:
            begin += self._bounds(STANDSTILL_SECONDS, WHOLE_SECONDS)
        else:
            begin += self._bounds(STANDSTILL_OF_RUNS_SECONDS, WHOLE_OF_RUNS_SECONDS)
        begin += f"; SET LOCAL app.credential_id = '{principal.credential_id}'"
        begin += f"; SET LOCAL app.user_id = '{principal.user_id}'"
        if principal.end_user_id is not None:
            begin += f"; SET LOCAL app.end_user_id = '{principal.end_user_id}'"
        if project_id is not None:
            begin += f"; SET LOCAL app.project_id = '{project_id}'"
        if not read_only:
            begin += told()
        turn = self._turns.of(principal.user_id)
        if principal.run_id is None or read_only:
            return Transaction(self._connections, begin, turn)
        lease = f"'{principal.run_id}', {principal.run_epoch}"
        begin += f"; SELECT require_lease({lease}, false)"
        return Transaction(self._connections, begin, turn, f"SELECT require_lease({lease}, true); COMMIT")

    async def read(
        self, function: str, principal: Principal, project_id: UUID, *further: object
    ) -> list[asyncpg.Record]:
        """The rows of a reading function of migration 0003 or later, as ``principal`` in ``project_id``, in one round
        trip. ``further``: what it takes after these.

        The statement is its own transaction: what the function sets about the caller ends with it.
        """
        places = "".join(f", ${number}" for number in range(5, 5 + len(further)))
        async with Transaction(self._connections, None, self._turns.of(principal.user_id)) as connection:
            return await connection.fetch(
                f"SELECT * FROM {function}($1, $2, $3, $4{places})",  # noqa: S608  a name out of our own code
                *(principal.credential_id, principal.user_id, principal.end_user_id, project_id, *further),
            )

    def system(self) -> Transaction:
        """A connection as nobody, each statement its own transaction, which saves two round trips.

        No tenant row is visible, only the allow-listed functions are of use.
        """
        return Transaction(self._connections, None)

    def entering(self) -> Transaction:
        """A transaction as nobody, for who comes in or does not: what is audited in it says from where."""
        return Transaction(self._connections, f"BEGIN{told()}")

    def working(self, job_id: int, worker_id: UUID, lane: UUID) -> Transaction:
        """A transaction as the application role inside the tenant of a job that the worker has (``db.job_queue``).

        The database finds out which tenant that is. It must not stand still: nobody takes the job over meanwhile.
        """
        begin = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"
        begin += f"; SELECT ops.enter_job({job_id}, '{worker_id}')"
        return Transaction(self._connections, begin, self._turns.of(lane))

    @contextlib.asynccontextmanager
    async def ops(self) -> AsyncIterator[Connection]:
        """A transaction as the ops role, which sees ids and leases only. Raises ``AppError`` when there is none."""
        begin = "BEGIN" + self._bounds(STANDSTILL_OF_RUNS_SECONDS, WHOLE_SECONDS)
        async with Transaction(await self._as_ops(), begin) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def ops_statements(self) -> AsyncIterator[Connection]:
        """The same with each statement its own transaction, which saves two round trips."""
        async with Transaction(await self._as_ops(), None) as connection:
            yield connection

    def _bounds(self, idle: int, whole: int) -> str:
        """After BEGIN: for how many seconds the transaction may stand still, and last. Only PostgreSQL 17 and later
        knows the second."""
        bounds = f"; SET LOCAL idle_in_transaction_session_timeout = '{idle}s'"
        return bounds if self._major < 17 else f"{bounds}; SET LOCAL transaction_timeout = '{whole}s'"

    async def _as_ops(self) -> Resting:
        if self._ops_url is None:
            raise AppError("ops_not_configured", 503, "No ops role is configured.", "Set DATABASE_OPS_URL.")
        async with self._ops_opening:
            if self._ops is None:
                try:
                    self._ops = Resting(await open_pool(self._ops_url, 0, OPS_SIZE))
                except LOST as error:
                    raise unavailable() from error
            return self._ops

    async def ping(self, seconds: float = 2.0) -> None:
        """Raises ``AppError`` (``unavailable``) unless the database answers in time."""
        try:
            async with asyncio.timeout(seconds), self.system() as connection:
                await connection.fetchval("SELECT 1")
        except LOST as error:
            raise unavailable() from error

    def stats(self) -> PoolStats:
        pool = self._connections.pool
        return PoolStats(pool.get_size(), pool.get_idle_size() + len(self._connections), pool.get_max_size())
