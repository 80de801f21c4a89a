"""Removes what has had its time: answers, links, sessions and codes after a day, used approvals and dead jobs after 30,
tokens when they have expired, and clients that registered themselves when nobody uses them."""

from __future__ import annotations

from typing import Final

from server.jobs.job import JobCall

BATCH: Final = 1000


async def clean_up(job: JobCall) -> None:
    """Remove what has had its time: answers of writes, links, sessions, approvals, dead jobs, workers that are gone.

    A batch a transaction, so that no locks are held for long.
    """
    removed = 0
    for function in ("clean_up", "clean_up_oauth", "ops.clean_jobs", "clean_mail"):
        while True:
            async with job.services.database.ops_statements() as connection:
                batch = int(await connection.fetchval(f"SELECT {function}($1)", BATCH))
            removed += batch
            await job.progress(removed)
            if batch < BATCH:
                break
