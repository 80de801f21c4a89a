"""Keeps what components mean beside them: the vectors that an embedding model makes of their words.

A job for each project that has something new; once an hour the house looks for those left over, as when another model
was configured. Without a model there is nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import component_meanings
from db.jobs import enqueue_for
from server.jobs.job import JobCall
from tools.publishing import MEANINGS_JOB

if TYPE_CHECKING:
    from tools.ports import Meanings

BATCH: Final = 64
PROJECTS: Final = 500


async def find_meanings(job: JobCall) -> None:
    """Find out what the components of a project mean that have no meaning of the model in use."""
    meanings = _meanings(job)
    if meanings.model is None:
        return
    done = 0
    while True:
        async with job.transaction() as connection:
            rows = await component_meanings.lacking(connection, meanings.model, BATCH)
        if not rows:
            return
        vectors = await meanings.of_all([row["words"] for row in rows])
        async with job.transaction() as connection:
            for row, vector in zip(rows, vectors, strict=True):
                await component_meanings.keep(connection, row["id"], row["words"], vector, meanings.model)
        done += len(rows)
        await job.progress(done)


async def look_for_meanings(job: JobCall) -> None:
    """The house's own: have each project that has components without a meaning find it."""
    model = _meanings(job).model
    after: UUID | None = None
    while model is not None:
        async with job.services.database.ops() as connection:
            page = await component_meanings.projects_lacking(connection, model, after, PROJECTS)
            for project_id in page:
                await enqueue_for(connection, project_id, MEANINGS_JOB, {}, dedupe=MEANINGS_JOB)
        if len(page) < PROJECTS:
            return
        after = page[-1]


def _meanings(job: JobCall) -> Meanings:
    return job.services.dispatch.services.meanings
