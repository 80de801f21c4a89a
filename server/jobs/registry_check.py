"""Removes contents of components that no version has: of a publication that was never carried out.

What is younger than a day is left alone: it may be on its way.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from db import components
from server.jobs.job import JobCall

CHECK: Final = "registry_check"
GRACE: Final = timedelta(days=1)
BATCH: Final = 500


async def check_contents(job: JobCall) -> None:
    """Compare a project's objects with its rows, a page at a time."""
    if job.project_id is None:
        raise RuntimeError("a job of a project")
    limit = datetime.now(UTC) - GRACE
    prefix = components.blob_key(job.project_id, b"")
    old: list[bytes] = []
    seen = 0
    async for found in job.services.store.list(prefix):
        seen += 1
        sha256 = _sum(found.key.removeprefix(prefix))
        if sha256 is not None and found.modified < limit:
            old.append(sha256)
        if len(old) >= BATCH:
            await _remove(job, old, limit)
            await job.progress(seen)
            old = []
    await _remove(job, old, limit)


async def _remove(job: JobCall, old: list[bytes], limit: datetime) -> None:
    """Those of them that no row has, and that nobody has sent anew meanwhile."""
    if not old or job.project_id is None:
        return
    async with job.transaction() as connection:
        absent = await components.absent_blobs(connection, old)
    for sha256 in absent:
        key = components.blob_key(job.project_id, sha256)
        found = await job.services.store.head(key)
        if found is not None and found.modified < limit:
            await job.services.store.delete([key])


def _sum(name: str) -> bytes | None:
    try:
        return bytes.fromhex(name)
    except ValueError:
        return None
