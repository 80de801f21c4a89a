"""Syncs a project's registry from a source: fetch, check, stage; then publish all of it in one transaction, or nothing.

What is held in memory are the names, and a handful of items at a time; everything else waits in the store and in rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import components, registry_sync
from db.aside import aside
from db.errors import AppError
from db.registry_sync import Ending, Staged
from server.integrations.registry_upstream import Entry, Upstream
from server.jobs.job import Job, JobCall
from tools import component_dependencies, publishing
from tools.component_faults import Fault, FaultsError
from tools.component_item import Item, checked
from tools.component_reading import shown_hash
from tools.sync import JOB

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection
    from tools.ports import Services

AT_ONCE: Final = 8
"""Items that are fetched, checked and held at a time."""
TELL: Final = 50
"""Faults and changes that a report keeps."""
RETRIES: Final = (10.0, 60.0, 300.0)
SECONDS: Final = 900.0


def registry_sync_job(retries: tuple[float, ...] = RETRIES) -> Job:
    """The kind of job. A source that cannot be reached is tried again after ``retries``; then the sync has failed."""
    return Job(JOB, sync_registry, retries=retries, timeout=SECONDS)


async def sync_registry(job: JobCall) -> None:
    """Carry out the last sync of a source that waits, if one does."""
    source_id = job.uuid("source_id")
    async with job.transaction() as connection:
        source = await registry_sync.source(connection, source_id)
        sync_id = await registry_sync.begin(connection, source_id) if source is not None else None
    if source is None or sync_id is None or job.project_id is None:
        return
    try:
        await _Sync(job, job.project_id, source, sync_id).run()
    except FaultsError as error:
        await _failed(job, sync_id, error, [{"at": fault.pointer, "says": fault.says} for fault in error.faults])
    except AppError as error:
        if error.retryable and job.attempt < job.attempts:
            raise
        await _failed(job, sync_id, error, ())


async def _failed(job: JobCall, sync_id: UUID, error: AppError, faults: Sequence[dict[str, str]]) -> None:
    ending = Ending("failed", faults=faults[:TELL], error_code=error.code, error_message=error.message[:2_000])
    async with job.transaction() as connection:
        await registry_sync.end(connection, sync_id, ending)
        await job.finish(connection)


@dataclass
class _Sync:
    job: JobCall
    project_id: UUID
    source: asyncpg.Record
    sync_id: UUID

    async def run(self) -> None:
        upstream = Upstream(self._tools.outside, self.source["url"], self.source["kind"])
        entries = await upstream.entries()
        async with self.job.transaction() as connection:
            registry = await components.registry(connection, self.project_id)
            known = await components.hashes(connection)
        if registry is None:
            return
        ours = publishing.own_addresses(self.project_id, registry.namespace, self._tools.pages.base())
        checking = _Checking(upstream, ours, frozenset(entry.name for entry in entries), frozenset(known))
        waiting = [entry for entry in entries if not _is_held(entry, known)]
        held = len(entries) - len(waiting)
        faults: list[Fault] = []
        for start in range(0, len(waiting), AT_ONCE):
            faults += await self._stage(waiting[start : start + AT_ONCE], checking)
            await self._tell(held + min(start + AT_ONCE, len(waiting)), len(entries))
            if len(faults) >= TELL:
                break
        if faults:
            raise FaultsError(faults)
        await self._publish(held)

    @property
    def _tools(self) -> Services:
        return self.job.services.dispatch.services

    async def _stage(self, entries: list[Entry], checking: _Checking) -> list[Fault]:
        """Fetch and check some items, and stage those that are well; what is wrong with the others."""
        outcomes = await asyncio.gather(*(checking.item(entry) for entry in entries), return_exceptions=True)
        items: list[Item] = []
        faults: list[Fault] = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, FaultsError):
                faults += [Fault((entry.name, *fault.at), fault.says) for fault in outcome.faults]
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                items.append(outcome)
        if items and not faults:
            await self._store(items)
            staged = [Staged(publishing.release(item), [str(one) for one in item.own]) for item in items]
            async with self.job.transaction() as connection:
                await registry_sync.stage(connection, self.project_id, self.sync_id, staged)
        return faults

    async def _store(self, items: Sequence[Item]) -> None:
        contents = {content.sha256: content.data for item in items for content in item.contents}
        async with self.job.transaction() as connection:
            absent = await publishing.absent_contents(connection, self._tools, self.project_id, contents)
        await publishing.put_contents(self._tools, self.project_id, absent)

    async def _tell(self, done: int, total: int) -> None:
        async with self.job.transaction() as connection:
            await registry_sync.progress(connection, self.sync_id, done, total)
        await self.job.progress(done, total)

    async def _publish(self, held: int) -> None:
        quota = self._tools.storage.quota_bytes
        async with self.job.transaction() as connection:
            rows = await registry_sync.publish_staged(connection, self.project_id, self.sync_id, self.source, quota)
            faults = [Fault((row["name"],), _REFUSED[row["outcome"]]) for row in rows if row["outcome"] in _REFUSED]
            faults += await self._lacking(connection)
            if faults:
                raise FaultsError(faults)
            changed = [
                {"name": row["name"], "version": row["version"]} for row in rows if row["outcome"] == "published"
            ]
            ending = Ending(
                "succeeded",
                published=len(changed),
                unchanged=held + len(rows) - len(changed),
                changes=changed[:TELL],
            )
            await registry_sync.end(connection, self.sync_id, ending)
            await publishing.say_new(connection, self._tools)
            await self.job.finish(connection)

    async def _lacking(self, connection: Connection) -> list[Fault]:
        faults = []
        for name, need in await registry_sync.staged_needs(connection, self.sync_id):
            own, _, wanted = need.partition("@")
            if await components.at(connection, self.project_id, own, publishing.selection(wanted or None)) is None:
                faults.append(Fault((name, "registryDependencies"), f"name {need}, which the registry does not have"))
        return faults


@dataclass(frozen=True)
class _Checking:
    """Makes items of a source ours. ``names``: of the source's items, ``known``: of those the registry has."""

    upstream: Upstream
    ours: Callable[[str], str | None]
    names: frozenset[str]
    known: frozenset[str]

    async def item(self, entry: Entry) -> Item:
        """Raises ``FaultsError`` for an item that cannot be published, ``AppError`` for one that cannot be had."""
        item = await self.upstream.item(entry)
        needs = item.get("registryDependencies")
        if isinstance(needs, list):
            item["registryDependencies"] = [self._named(one) if isinstance(one, str) else one for one in needs]
        return await aside(lambda: checked(item, own=self._own, root=(), strict=False))

    def _own(self, address: str) -> str | None:
        return self.ours(address) or self.upstream.own(self.names, address)

    def _named(self, address: str) -> str:
        """A plain name that neither the source nor the registry has means what the format says: shadcn's own."""
        name = address.partition("@")[0]
        if not component_dependencies.PLAIN.fullmatch(name) or name in self.names or name in self.known:
            return address
        return f"@shadcn/{address}"


def _is_held(entry: Entry, known: Mapping[str, bytes]) -> bool:
    """Whether the source itself says that an item is the one we have."""
    return entry.name in known and entry.hash == shown_hash(known[entry.name])


_REFUSED: Final = {
    "version_taken": "has a version that is published already, with other content",
    "quota_exceeded": "does not fit into the project's quota",
    "role_insufficient": "may not be published by whoever made the source",
    "project_not_found": "has no project any more",
}
