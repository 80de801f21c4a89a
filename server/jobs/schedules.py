"""Jobs that the house adds itself when the clock says so; once, whatever the number of processes with a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from croniter import croniter  # type: ignore[import-untyped]  # it brings no types

from db import job_queue
from db.errors import AppError
from server.jobs.job import Job

if TYPE_CHECKING:
    from db.database import Database

LONGEST_SLEEP: Final = 60.0
SHORTEST_SLEEP: Final = 0.05
_log = logging.getLogger("innkeeper.jobs")


async def keep_schedules(database: Database, jobs: Sequence[Job]) -> None:
    """Add the scheduled ones of ``jobs`` in time, until cancelled. A moment that passed without a process counts once,
    as soon as there is one."""
    schedules = {job.kind: job.schedule for job in jobs if job.schedule is not None}
    if not schedules:
        return
    while True:
        wait = LONGEST_SLEEP
        try:
            async with database.ops_statements() as connection:
                wait = await job_queue.fire(connection, [_moments(*schedule) for schedule in schedules.items()])
        except AppError as error:
            wait = 1.0
            _log.warning("scheduled jobs have to wait: %s", error.message)
        except Exception:  # noqa: BLE001  whatever it was, the next time comes
            _log.exception("scheduled jobs could not be added")
        await asyncio.sleep(min(max(wait, SHORTEST_SLEEP), LONGEST_SLEEP))


def _moments(kind: str, expression: str) -> tuple[str, str, datetime, datetime]:
    """The two moments after now."""
    times = croniter(expression, datetime.now(UTC))
    return kind, expression, times.get_next(datetime), times.get_next(datetime)
