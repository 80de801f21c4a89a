"""Workers in the test's own event loop, over the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from db import job_queue
from db.database import Database
from db.job_queue import JobRow
from server.jobs.job import Job
from server.jobs.worker import Worker, WorkerRules, working
from tests.conftest import eventually

if TYPE_CHECKING:
    from server.services import Services


@asynccontextmanager
async def at_work(database: Database, *jobs: Job, places: int = 4, lease: float = 4.0) -> AsyncIterator[Worker]:
    """A worker that knows ``jobs``; their handlers get services of which only the database is real."""
    services = cast("Services", SimpleNamespace(database=database))
    async with working(services, WorkerRules(places, lease), jobs) as worker:
        yield worker


async def all_jobs(database: Database) -> list[JobRow]:
    """The oldest first."""
    async with database.ops() as connection:
        return (await job_queue.page(connection, limit=1000))[::-1]


async def until_states(database: Database, *states: str) -> list[JobRow]:
    """The jobs, once these are their states."""

    async def reached() -> bool:
        return tuple(job.state for job in await all_jobs(database)) == states

    await eventually(reached)
    return await all_jobs(database)
