"""Sources of a project's registry: what they serve is published by itself, whenever their webhook says so.

Who makes a source lets what is under its address be published from then on, so a person is asked then, and not again
at each sync.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from db import components, jobs, registry_sync
from db.errors import AppError, conflict, invalid, not_found
from db.scopes import Scope
from tools import publishing
from tools.contract import Call, Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.roles import administered
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    from db.database import Connection

JOB: Final = "sync_registry"
SourceId: TypeAlias = Annotated[UUID, Field(description="As list_registry_sources shows it.")]
SyncId: TypeAlias = Annotated[UUID, Field(description="As sync_registry_source answers.")]
Url: TypeAlias = Annotated[
    str,
    Field(
        max_length=500,
        description="A built registry.json, or the raw address of a folder in a forge that has one"
        " (https://raw.githubusercontent.com/OWNER/REPO/BRANCH/).",
    ),
]
State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "superseded"]


class RegistrySource(BaseModel):
    id: UUID
    url: Untrusted[str]
    kind: Literal["manifest", "files"]
    webhook: Trusted[str] = Field(description="Where a forge sends its webhooks to.")
    has_secret: bool = Field(description="Webhooks are refused until a person has made one.")
    last_sync: State | None = None
    created_at: datetime


class RegistrySourcePage(BaseModel):
    sources: list[RegistrySource]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class DeletedSource(BaseModel):
    id: UUID
    deleted: Literal[True] = True


class RegistrySync(BaseModel):
    id: UUID
    source_id: UUID
    state: State
    done: int
    total: int | None
    published: int
    unchanged: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error_code: Trusted[str] | None
    error_message: Untrusted[str] | None


class RegistrySyncReport(RegistrySync):
    """``changes``: name and version of what was published; ``faults``: why nothing was."""

    changes: Untrusted[list[Any]]
    faults: Untrusted[list[Any]]


class RegistrySyncPage(BaseModel):
    syncs: list[RegistrySync]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


@tool(Scope.registry_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_registry_sources(
    call: Caller, project_id: ProjectId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> RegistrySourcePage:
    """List where a project's registry is synced from, newest first."""
    async with call.transaction() as connection:
        await _require_project(connection, project_id)
        rows = await registry_sync.sources(connection, from_cursor(cursor), limit + 1)
    shown, more = cut(rows, limit, lambda row: _source(call, row))
    return RegistrySourcePage(sources=shown, next_cursor=more)


async def _opening(call: Call, project_id: UUID, url: str) -> Preview:
    async with call.transaction() as connection:
        project = await administered(connection, project_id)
    call.services.outside.check(url)
    effect = f"From then on, components from another address are published in project {project_id} by themselves."
    return Preview(effect, {"Project": project["name"], "Address": url})


@tool(
    Scope.registry_write,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=True,
    preview=_opening,
    target="url",
)
async def create_registry_source(call: Caller, project_id: ProjectId, url: Url) -> RegistrySource:
    """Sync the registry from an address, whenever its webhook says so or sync_registry_source does.

    Needs the role owner or admin."""
    async with call.transaction() as connection:
        await administered(connection, project_id)
        call.services.outside.check(url)
        _require_plain(url)
        kind = "manifest" if urlsplit(url).path.endswith(".json") else "files"
        try:
            source_id = await registry_sync.add_source(connection, call.principal, project_id, url, kind)
        except asyncpg.UniqueViolationError:
            raise conflict(
                "source_exists",
                "This address is a source of the project already.",
                "Use the one there is (list_registry_sources).",
                {"next_tool": "list_registry_sources"},
            ) from None
        row = await registry_sync.source(connection, source_id)
    if row is None:
        raise not_found("registry_source")
    return _source(call, row)


async def _closing(call: Call, project_id: UUID, source_id: UUID) -> Preview:
    async with call.transaction() as connection:
        project = await administered(connection, project_id)
        await _require_source(connection, source_id)
    effect = f"This ends the syncs of project {project_id} from source {source_id}, and deletes their reports."
    return Preview(effect, {"Project": project["name"]})


@tool(
    Scope.registry_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_closing,
    target="source_id",
)
async def delete_registry_source(call: Caller, project_id: ProjectId, source_id: SourceId) -> DeletedSource:
    """Stop syncing from a source, and delete the reports of it. What it published stays.

    Needs the role owner or admin."""
    async with call.transaction() as connection:
        await administered(connection, project_id)
        await _require_source(connection, source_id)
        await registry_sync.remove_source(connection, source_id)
    return DeletedSource(id=source_id)


@tool(Scope.registry_write, read_only=False, destructive=False, idempotent=False, open_world=False)
async def sync_registry_source(call: Caller, project_id: ProjectId, source_id: SourceId) -> RegistrySyncReport:
    """Sync from a source now. Then follow it with get_registry_sync."""
    async with call.transaction() as connection:
        await publishing.writable_registry(connection, project_id)
        await _require_source(connection, source_id)
        sync_id = await registry_sync.add_sync(connection, project_id, source_id)
        await jobs.enqueue(connection, JOB, {"source_id": source_id}, dedupe=str(source_id))
        row = await registry_sync.sync(connection, sync_id)
    if row is None:
        raise _no_sync()
    return RegistrySyncReport(**row)


@tool(Scope.registry_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_registry_sync(call: Caller, project_id: ProjectId, sync_id: SyncId) -> RegistrySyncReport:
    """Read how far a sync is, or what it changed, or why it changed nothing."""
    async with call.transaction() as connection:
        await _require_project(connection, project_id)
        row = await registry_sync.sync(connection, sync_id)
    if row is None:
        raise _no_sync()
    return RegistrySyncReport(**row)


@tool(Scope.registry_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_registry_syncs(
    call: Caller, project_id: ProjectId, source_id: SourceId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> RegistrySyncPage:
    """List the syncs of a source, newest first."""
    async with call.transaction() as connection:
        await _require_project(connection, project_id)
        await _require_source(connection, source_id)
        rows = await registry_sync.syncs(connection, source_id, from_cursor(cursor), limit + 1)
    shown, more = cut(rows, limit, lambda row: RegistrySync(**row))
    return RegistrySyncPage(syncs=shown, next_cursor=more)


def _require_plain(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.query or parts.fragment:
        raise invalid(
            "The address has a user, a query or a fragment.",
            "Give an address without them: it is shown to everybody in the project, so no secret may be in it.",
            details={"arguments": [{"do": "change", "at": "url"}]},
        )


async def _require_project(connection: Connection, project_id: UUID) -> None:
    if await components.registry(connection, project_id) is None:
        raise not_found("project")


async def _require_source(connection: Connection, source_id: UUID) -> None:
    if await registry_sync.source(connection, source_id) is None:
        raise not_found(
            "source",
            "List what there is (list_registry_sources) and use an id from there.",
            {"next_tool": "list_registry_sources"},
        )


def _no_sync() -> AppError:
    hint = "List what there is (list_registry_sources, list_registry_syncs) and use an id from there."
    return not_found("sync", hint, {"next_tool": "list_registry_sources"})


def _source(call: Call, row: asyncpg.Record) -> RegistrySource:
    return RegistrySource(
        id=row["id"],
        url=row["url"],
        kind=row["kind"],
        webhook=f"{call.services.pages.base()}/webhooks/registry/{row['id']}",
        has_secret=row["secret_at"] is not None,
        last_sync=row.get("last_sync"),
        created_at=row["created_at"],
    )
