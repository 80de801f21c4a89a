"""The queue as workers and operators see it, on connections of the ops role. The SQL is in migration 0015."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from db.database import Connection

    Ops: TypeAlias = Connection | asyncpg.Connection[asyncpg.Record]

CHANNEL: Final = "innkeeper_jobs"
LOST_STATE: Final = "IK001"
BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds in seconds of the histogram in ``ops.job_totals``; what took longer is in one more."""

State = Literal["queued", "scheduled", "running", "dead"]
STATES: Final = ("queued", "scheduled", "running", "dead")
Outcome = Literal["done", "retry", "dead", "back"]


class JobLost(Exception):  # noqa: N818  (no defect: somebody else goes on)
    """The job is not this worker's any more: it was taken over, is over already, or its tenant is gone."""


def lost(error: asyncpg.PostgresError) -> bool:
    """Whether the database said with ``error`` that the job of a transaction is not the worker's."""
    return error.sqlstate == LOST_STATE


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the operator sees it. ``error_code`` and ``error_message``: of its last attempt that failed."""

    id: int
    kind: str
    state: State
    project_id: UUID | None
    user_id: UUID | None
    attempts: int
    created_at: datetime
    due_at: datetime
    updated_at: datetime
    worker: UUID | None
    progress_done: int | None
    progress_total: int | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Count:
    """``oldest``: for how many seconds the first of them has been due."""

    kind: str
    state: State
    jobs: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Total:
    """Attempts since the beginning. ``buckets``: how many took how long, by ``BUCKETS``."""

    kind: str
    outcome: str
    jobs: int
    seconds: float
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workers:
    """``alive``: seen in the last 15 s. ``last_seen``: seconds ago, ``None`` when there never was one."""

    alive: int
    last_seen: float | None


async def pick(
    connection: Ops,
    worker: UUID,
    attempts: dict[str, int],
    *,
    limit: int,
    share: int,
    lease: timedelta,
    running: Sequence[int],
    after: UUID | None,
) -> list[asyncpg.Record]:
    """Take at most ``limit`` due jobs of the kinds in ``attempts`` (most attempts by kind); rows of ``ops.pgqueuer``.

    Also says that the worker lives, and puts back what workers left whose ``lease`` ran out. ``running``: what this
    worker is known to have. ``share``: the most it may have of one lane; ``after``: the lane it took last.
    """
    return await connection.fetch(
        "SELECT * FROM ops.pick_jobs($1, $2, $3, $4, $5, $6, $7, $8)",
        *(worker, list(attempts), list(attempts.values()), limit, share, lease, running, after),
    )


async def next_due(connection: Ops, kinds: Sequence[str]) -> float | None:
    """In how many seconds something is due; ``None`` when nothing is in sight."""
    return cast("float | None", await connection.fetchval("SELECT ops.next_due($1)", kinds))


async def renew(connection: Ops, worker: UUID, jobs: Sequence[int]) -> list[int]:
    """Keep ``jobs`` the worker's own for another lease; answers those that are no more."""
    rows = await connection.fetch("SELECT * FROM ops.renew_jobs($1, $2)", worker, jobs)
    return [int(row[0]) for row in rows]


async def settle(
    connection: Ops,
    worker: UUID,
    job: int,
    kind: str,
    outcome: Outcome,
    *,
    seconds: float,
    delay: float = 0.0,
    code: str | None = None,
    message: str | None = None,
) -> None:
    """Record what became of an attempt: ``retry`` comes again after ``delay``, ``back`` was not an attempt at all.

    A job that is not the worker's any more stays as it is.
    """
    await connection.execute(
        "SELECT ops.settle_job($1, $2, $3, $4, $5, $6, $7, $8)",
        *(worker, job, kind, outcome, seconds, timedelta(seconds=delay), code, message),
    )


async def progress(connection: Ops, worker: UUID, job: int, done: int, total: int | None) -> None:
    """Note how far a job has come, as long as it is this worker's."""
    await connection.execute("SELECT ops.progress_job($1, $2, $3, $4)", worker, job, done, total)


async def leave(connection: Ops, worker: UUID) -> None:
    """The worker is gone, and was not lost."""
    await connection.execute("SELECT ops.leave($1)", worker)


async def fire(connection: Ops, schedules: Sequence[tuple[str, str, datetime, datetime]]) -> float:
    """Add the jobs of the schedules whose time has come: kind, expression, its next moment and the one after that.

    Answers in how many seconds the next one comes. Any number of processes may ask: each moment counts once.
    """
    kinds, expressions, following, later = zip(*schedules, strict=True)
    wait = await connection.fetchval("SELECT ops.fire_schedules($1, $2, $3, $4)", kinds, expressions, following, later)
    return float(wait)


async def page(
    connection: Ops,
    *,
    state: State | None = None,
    kind: str | None = None,
    project_id: UUID | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[JobRow]:
    """The newest jobs first, below the id ``before``. What ended well is gone."""
    rows = await connection.fetch(
        "SELECT * FROM ops.list_jobs($1, $2, $3, $4, $5)", state, kind, project_id, before, limit
    )
    return [JobRow(**row) for row in rows]


async def retry(connection: Ops, *, jobs: Sequence[int] = (), kind: str | None = None) -> list[int]:
    """Begin dead jobs anew: by id, which also ends the wait of one that backs off, or all of a kind. Answers which."""
    rows = await connection.fetch("SELECT * FROM ops.retry_jobs($1, $2)", jobs, kind)
    return sorted(int(row[0]) for row in rows)


async def counts(connection: Ops) -> list[Count]:
    """How many jobs there are by kind and state."""
    return [Count(**row) for row in await connection.fetch("SELECT * FROM ops.count_jobs()")]


async def totals(connection: Ops) -> list[Total]:
    """What attempts took, by kind and outcome, of all processes there ever were."""
    rows = await connection.fetch("SELECT kind, outcome, jobs, seconds, buckets FROM ops.total_jobs()")
    return [Total(row[0], row[1], row[2], row[3], tuple(row[4])) for row in rows]


async def workers(connection: Ops) -> Workers:
    """How many workers live, and how many seconds ago one was last seen."""
    row = await connection.fetchrow("SELECT workers, last_seen FROM ops.count_workers()")
    if row is None:
        raise RuntimeError("a function of OUT arguments has one row")
    return Workers(row["workers"], row["last_seen"])
