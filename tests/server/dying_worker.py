"""Worker processes that die by SIGKILL where they are told to, each followed by the next.

Run as ``python -m tests.server.dying_worker APP_URL OPS_URL deaths|schedule``; prints one JSON object. Children are
forked, so that each starts at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any
from uuid import uuid4

from db import job_queue
from db.database import Database
from server.jobs.job import Job, JobCall
from tests.working import at_work

SECONDS = 60
LEASE = 1.0


class Step(IntEnum):
    """Where the process of a job's first attempt dies; in the payload as ``step``."""

    picked = 1
    begun = 2
    effect_uncommitted = 3
    effect_committed = 4
    settled = 5
    nowhere = 6


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def make_thread(job: JobCall) -> None:
    step = Step(int(str(job.payload["step"])))

    def reached(here: Step) -> None:
        if job.attempt == 1 and step is here:
            die()

    reached(Step.begun)
    async with job.transaction() as connection:
        await connection.execute(
            "INSERT INTO threads (project_id, id, external_id, name) VALUES ($1, $2, $3, $4)",
            *(job.project_id, uuid4(), str(uuid4()), step.name),
        )
        await job.finish(connection)
        reached(Step.effect_uncommitted)
    reached(Step.effect_committed)


def dying(*, before_picking: bool) -> None:
    """Lay the deaths that no handler can die into the queue."""
    pick, settle = job_queue.pick, job_queue.settle

    async def pick_and_die(*arguments: Any, **named: Any) -> Any:
        if before_picking:
            die()
        rows = await pick(*arguments, **named)
        if any(json.loads(row["payload"])["step"] == Step.picked and row["attempts"] == 1 for row in rows):
            die()
        return rows

    async def settle_and_die(connection: Any, worker: Any, job: int, *arguments: Any, **named: Any) -> None:
        await settle(connection, worker, job, *arguments, **named)
        if job in settled:
            die()

    settled = {int(number) for number in os.environ["DIE_WHEN_SETTLED"].split()}
    job_queue.pick, job_queue.settle = pick_and_die, settle_and_die


async def work(app: str, ops: str, job: Job, over: Callable[[Database], Awaitable[bool]]) -> None:
    database = await Database.open(app, ops_url=ops, min_size=1, max_size=4)
    try:
        async with at_work(database, job, places=1, lease=LEASE), asyncio.timeout(SECONDS):
            while not await over(database):  # noqa: ASYNC110  any process may be the one that ends it
                await asyncio.sleep(0.02)
    finally:
        await database.close()


async def no_job_is_left(database: Database) -> bool:
    async with database.ops() as connection:
        return not await job_queue.page(connection)


def deaths(app: str, ops: str) -> dict[str, Any]:
    """Start workers until one finds no job left."""
    died = 0
    since = time.monotonic()
    while True:
        child = os.fork()
        if child == 0:
            dying(before_picking=died == 0)
            asyncio.run(work(app, ops, Job("work", make_thread), no_job_is_left))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return {"died": died, "code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - since}
        died += 1
        since = time.monotonic()


async def nothing(job: JobCall) -> None:
    """A scheduled job, of which only the number counts."""


async def tick(app: str, ops: str) -> None:
    fire, asked = job_queue.fire, asyncio.Event()

    async def fire_and_note(connection: Any, schedules: Any) -> float:
        wait = await fire(connection, schedules)
        asked.set()
        return wait

    job_queue.fire = fire_and_note

    async def ticked(database: Database) -> bool:
        async with database.ops() as connection:
            return asked.is_set() and bool(await job_queue.totals(connection))

    await work(app, ops, Job("tick", nothing, schedule="* * * * *"), ticked)


def schedule(app: str, ops: str) -> dict[str, Any]:
    """Two workers at once, each until it has asked for what is due and that is done."""
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            asyncio.run(tick(app, ops))
            os._exit(0)
        children.append(child)
    return {"codes": [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]}


if __name__ == "__main__":
    app_url, ops_url, mode = sys.argv[1:]
    print(json.dumps({"deaths": deaths, "schedule": schedule}[mode](app_url, ops_url)))
