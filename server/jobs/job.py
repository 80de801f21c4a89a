"""What a kind of job is, and what its handler gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import asyncpg

from db import job_queue
from db.errors import AppError
from db.job_queue import JobLost, lost

if TYPE_CHECKING:
    from db.database import Connection
    from server.services import Services

Handler: TypeAlias = "Callable[[JobCall], Awaitable[None]]"
HOUSE: Final = UUID(int=0)


def exponential(first: float, *, times: int, factor: float = 3.0, most: float = 3600.0) -> tuple[float, ...]:
    """Waits between attempts, in seconds: ``first``, then each ``factor`` times the one before, at most ``most``."""
    return tuple(min(most, first * factor**number) for number in range(times))


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of job.

    ``retries``: how long to wait after each attempt that failed, give or take a fifth; after the last one the job is
    dead. ``timeout``: seconds an attempt may take. ``schedule``: a crontab line in UTC at which the house itself adds
    one, without a tenant or ids.
    """

    kind: str
    handler: Handler
    retries: tuple[float, ...] = exponential(2.0, times=7)
    timeout: float = 60.0
    schedule: str | None = None

    @property
    def attempts(self) -> int:
        return 1 + len(self.retries)


class RetryLater(Exception):  # noqa: N818  (a wish, not a defect)
    """Raised by a handler: try again in ``seconds``, not when the kind's own waits say. It counts as an attempt.

    ``error`` is what the operator reads meanwhile.
    """

    def __init__(self, seconds: float, error: AppError | None = None) -> None:
        super().__init__(error.message if error else "asked to be tried again later")
        self.seconds = seconds
        self.error = error


class JobCall:
    """One attempt at a job.

    ``attempt`` counts from 1 to ``attempts``, after which the job is dead. The ids are those of the transaction that
    added it, ``None`` where it had none: a job without ``project_id`` is the user's, one without either the house's.
    """

    def __init__(
        self,
        services: Services,
        worker_id: UUID,
        *,
        id: int,
        kind: str,
        attempt: int,
        attempts: int,
        payload: Mapping[str, UUID | int],
        project_id: UUID | None,
        end_user_id: UUID | None,
        user_id: UUID | None,
        credential_id: UUID | None,
    ) -> None:
        self.services = services
        self.id = id
        self.kind = kind
        self.attempt = attempt
        self.attempts = attempts
        self.payload = payload
        self.project_id = project_id
        self.end_user_id = end_user_id
        self.user_id = user_id
        self.credential_id = credential_id
        self._worker_id = worker_id

    def uuid(self, name: str) -> UUID:
        """The UUID ``name`` of the payload."""
        found = self.payload[name]
        if not isinstance(found, UUID):
            raise TypeError(f"{name} of a job {self.kind} is no UUID")
        return found

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction as the application role, inside the job's tenant: its end user's rows, or the project's.

        The database checks that this job is this worker's, and nobody can take it over until the end. So call nothing
        slow inside. Raises :class:`JobLost`, which handlers let pass.
        """
        lane = self.project_id or self.user_id or HOUSE
        try:
            async with self.services.database.working(self.id, self._worker_id, lane) as connection:
                yield connection
        except asyncpg.PostgresError as error:
            if lost(error):
                raise JobLost from None
            raise

    async def finish(self, connection: Connection) -> None:
        """End the job in this transaction of :meth:`transaction`, as its last statement: its effect and its end are
        one, so that no crash can bring it about twice. Without it a handler may run again after its effect."""
        await connection.execute("SELECT ops.finish_job()")

    async def progress(self, done: int, total: int | None = None) -> None:
        """Say how far it is; visible at once, whatever becomes of the attempt."""
        async with self.services.database.ops_statements() as connection:
            await job_queue.progress(connection, self._worker_id, self.id, done, total)
