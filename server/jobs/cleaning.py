"""Removes what has had its time: answers, links, sessions and codes after a day, used approvals and dead jobs after 30,
tokens when they have expired, clients that registered themselves when nobody uses them, logs of runs a day after their
end, and threads when their project keeps them no longer."""

from __future__ import annotations

from typing import Final

from server.jobs.job import JobCall

BATCHES: Final = {
    "clean_up": 1000,
    "clean_up_oauth": 1000,
    "clean_sign_ins": 1000,
    "clean_end_users": 1000,
    "ops.clean_jobs": 1000,
    "clean_mail": 1000,
    # A run has hundreds of events, a thread as many messages.
    "compact_runs": 50,
    "expire_threads": 50,
}


async def clean_up(job: JobCall) -> None:
    """Remove what has had its time: answers of writes, links, sessions, approvals, dead jobs, workers that are gone.

    A batch a transaction, so that no locks are held for long.
    """
    removed = 0
    for function, most in BATCHES.items():
        while True:
            async with job.services.database.ops_statements() as connection:
                batch = int(await connection.fetchval(f"SELECT {function}($1)", most))
            removed += batch
            await job.progress(removed)
            if batch < most:
                break
