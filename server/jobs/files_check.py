"""Rows and objects compared, both ways: a file without an object is lost, an object without a file is removed.

Once a day the house goes through the projects that have rows and those that have objects, and has each look at itself.
Both sides come in the order of their ids, so each is read once, a page at a time. What is younger than a day is left
alone: it may be on its way, or belong to rows that a restored backup has not got yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from db import files, storekeeping
from db.jobs import enqueue, enqueue_for
from db.storekeeping import DELETE
from server.jobs.files import BATCH, longest_ticket, rules_of
from server.jobs.job import JobCall
from server.jobs.registry_check import CHECK as REGISTRY_CHECK
from tools.store import Store, StoredObject

CHECK: Final = "files_check"
GRACE: Final = timedelta(days=1)
FIRST: Final = UUID(int=0)
LAST: Final = UUID(int=(1 << 128) - 1)
REGISTRY: Final = "registry/"
KINDS: Final = (files.LASTING, files.TEMPORARY, REGISTRY)


async def check_store(job: JobCall) -> None:
    """The house's own: sweep what uploads left behind, then have every project compared that is on either side."""
    store = job.services.store
    await store.sweep(datetime.now(UTC) - longest_ticket(rules_of(job)))
    after, checked = FIRST, 0
    while True:
        async with job.services.database.ops() as connection:
            page = await storekeeping.projects_after(connection, after, BATCH)
            for project_id in page:
                await enqueue_for(connection, project_id, CHECK, {}, dedupe=CHECK)
        checked += len(page)
        await job.progress(checked)
        if len(page) < BATCH:
            break
        after = page[-1]
    for kind in KINDS:
        async for project_id in _projects_of(store, kind):
            async with job.services.database.ops() as connection:
                check = REGISTRY_CHECK if kind == REGISTRY else CHECK
                known = await enqueue_for(connection, project_id, check, {}, dedupe=check)
            if known is None:
                await _remove_old(store, store.list(f"{kind}{project_id}/"))


async def erase_objects(job: JobCall) -> None:
    """The house's own: remove the objects of a project that was deleted. What uploads still bring afterwards goes with
    the daily comparison."""
    store, project_id, done = job.services.store, job.uuid("project_id"), 0
    sealed_before = datetime.now(UTC) - longest_ticket(rules_of(job))
    for kind in KINDS:
        async for batch in _batches(store.list(f"{kind}{project_id}/")):
            for one in batch:
                if kind != REGISTRY and one.modified > sealed_before:
                    await store.seal(one.key)
            await store.delete([one.key for one in batch])
            done += len(batch)
            await job.progress(done)


async def check_files(job: JobCall) -> None:
    """Compare one project's rows with its objects."""
    if job.project_id is None:
        raise RuntimeError("a job of a project")
    for temporary in (False, True):
        findings = _Findings(job, job.project_id, temporary)
        await findings.compare()
    async with job.transaction() as connection:
        if await storekeeping.being_deleted(connection, 1):
            await enqueue(connection, DELETE, {}, dedupe=DELETE)


@dataclass
class _Findings:
    """What one comparison has found and not yet acted on."""

    job: JobCall
    project_id: UUID
    temporary: bool
    lost: list[UUID] = field(default_factory=list)
    strays: list[UUID] = field(default_factory=list)
    seen: int = 0

    async def compare(self) -> None:
        prefix = files.key(self.project_id, FIRST, temporary=self.temporary).removesuffix(str(FIRST))
        limit = datetime.now(UTC) - GRACE
        rows, objects = self._rows(), self.job.services.store.list(prefix)
        row, found = await anext(rows, None), await anext(objects, None)
        while row is not None or found is not None:
            known = None if found is None else files.ids(found.key)
            if found is not None and known is None:
                found = await anext(objects, None)  # not ours to judge
                continue
            row_id, object_id = row[0] if row else LAST, known[1] if known else LAST
            if row is not None and row_id < object_id and row[1] == "ready":
                self.lost.append(row_id)
            elif found is not None and object_id < row_id and found.modified < limit:
                self.strays.append(object_id)
            elif row is not None and row_id == object_id and row[1] == "lost":
                await self._found(row_id)
            await self._settle(BATCH)
            here = min(row_id, object_id)
            if row_id == here:
                row = await anext(rows, None)
            if object_id == here:
                found = await anext(objects, None)
        await self._settle(1)

    async def _rows(self) -> AsyncIterator[tuple[UUID, str]]:
        after = FIRST
        while True:
            async with self.job.transaction() as connection:
                page = await storekeeping.after(connection, after, temporary=self.temporary, limit=BATCH)
            for row in page:
                yield row["id"], row["status"]
            self.seen += len(page)
            await self.job.progress(self.seen)
            if len(page) < BATCH:
                return
            after = page[-1]["id"]

    async def _found(self, file_id: UUID) -> None:
        async with self.job.transaction() as connection:
            await storekeeping.mark_found(connection, file_id)

    async def _settle(self, least: int) -> None:
        """Act on what was found, when it is many: after a second look, for meanwhile things may have changed."""
        store = self.job.services.store
        if len(self.lost) >= least:
            lost = [one for one in self.lost if await store.head(self._key(one)) is None]
            async with self.job.transaction() as connection:
                await storekeeping.mark_lost(connection, lost)
            self.lost = []
        if len(self.strays) >= least:
            async with self.job.transaction() as connection:
                existing = await storekeeping.existing(connection, self.strays)
            await store.delete([self._key(one) for one in self.strays if one not in existing])
            self.strays = []

    def _key(self, file_id: UUID) -> str:
        return files.key(self.project_id, file_id, temporary=self.temporary)


async def _projects_of(store: Store, kind: str) -> AsyncIterator[UUID]:
    """The projects that have objects, each found by looking behind the last object that the one before could have."""
    after = ""
    while True:
        async with aclosing(store.list(kind, after)) as objects:
            first = await anext(objects, None)
        if first is None:
            return
        name = first.key.removeprefix(kind).partition("/")[0]
        with suppress(ValueError):  # not ours
            yield UUID(name)
        after = max(f"{kind}{name}/~", first.key)


async def _remove_old(store: Store, objects: AsyncIterator[StoredObject]) -> None:
    """Remove objects of a project that is no more."""
    limit = datetime.now(UTC) - GRACE
    async for batch in _batches(objects):
        await store.delete([one.key for one in batch if one.modified < limit])


async def _batches(objects: AsyncIterator[StoredObject]) -> AsyncIterator[list[StoredObject]]:
    batch = []
    async for one in objects:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
