"""Storage: the files of a project. Their bytes go between client and store; here are only rows, and signed tickets.

A file is announced (``create_upload``), sent to the store with a ticket that allows these bytes and no others, and
confirmed. Its bytes never change after that: another version is another file, at a path that is free. What a ticket
holds is a secret for as long as it lasts, so answers are saved without it and signed anew each time they go out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from db import files, projects
from db.errors import AppError, conflict, needs_member, not_found
from db.ids import uuid7
from db.jobs import enqueue
from db.scopes import Scope
from db.storekeeping import DELETE
from tools import arrivals, inline, uploads
from tools.contract import Call, Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Limit, from_path_cursor, to_path_cursor
from tools.paths import Path, Prefix, file_name
from tools.preview import Preview
from tools.result import NOTE_BYTES, USUAL_BYTES, MaxBytes
from tools.serving import served_as
from tools.trust import Trusted, Untrusted
from tools.uploads import ContentType, Metadata, Sha256, Size, Status, Ticket, Upload

if TYPE_CHECKING:
    from db.database import Connection

FILE_TEMPLATE: Final = "innkeeper://projects/{project_id}/files/{file_id}"
FENCES: Final = 300
"""What the marks around words of others add."""

FileId: TypeAlias = Annotated[UUID, Field(description="As list_files shows it.")]
PathCursor: TypeAlias = Annotated[str | None, Field(description="next_cursor of the answer before.")]


class FileSummary(BaseModel):
    id: UUID
    path: Untrusted[str]
    size: int
    content_type: Untrusted[str]
    status: Status
    created_at: datetime


class FilePage(BaseModel):
    files: list[FileSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class File(FileSummary):
    sha256: Trusted[str] | None
    temporary: bool
    expires_at: datetime | None
    metadata: Untrusted[dict[str, str]]


class FileContent(File):
    ticket: Ticket | None = Field(default=None, description="Downloads the bytes.")
    text: Untrusted[str] | None = None
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when the text goes on.")


class DeletedFile(BaseModel):
    id: UUID
    deleted: Literal[True] = True


async def _tickets(
    call: Call, saved: Upload, *, replayed: bool, project_id: UUID, max_bytes: int = USUAL_BYTES, **given: Any
) -> Upload:
    """The answer with what the client needs now. Only the very first one can do without asking how far it has come."""
    if "path" in given and not replayed and saved.size <= call.services.storage.single_bytes:
        key = files.key(project_id, saved.id, temporary=given["temporary"])
        seconds = call.services.storage.ticket_seconds
        saved.ticket = uploads.whole(call, key, saved.size, given["content_type"], given["sha256"], seconds)
        return saved
    row = await files.read(call.services.database, call.principal, project_id, saved.id)
    if row is None:
        raise not_found("file")
    return await uploads.continued(call, row, max_bytes)


@tool(
    Scope.storage_write,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=False,
    after=_tickets,
)
async def create_upload(
    call: Caller,
    project_id: ProjectId,
    path: Path,
    size: Size,
    content_type: ContentType = "application/octet-stream",
    sha256: Sha256 | None = None,
    temporary: Annotated[bool, Field(description="Deleted after a day.")] = False,
    metadata: Metadata = {},  # noqa: B006  never changed
) -> Upload:
    """Announce a file; send its bytes with the ticket you get, then call confirm_upload."""
    rules = call.services.storage
    if size > rules.largest_bytes:
        raise AppError(
            "file_too_large",
            413,
            f"A file may have at most {rules.largest_bytes} bytes here.",
            "Send a smaller file, or split it into several.",
            details={"arguments": [{"do": "change", "at": "size", "schema": {"maximum": rules.largest_bytes}}]},
        )
    expected = files.Expected(
        uuid7(),
        path,
        size,
        content_type,
        bytes.fromhex(sha256) if sha256 else None,
        temporary,
        metadata,
        rules.pending_seconds,
    )
    async with call.transaction() as connection:
        added = await files.add(connection, call.principal, project_id, expected, default_quota=rules.quota_bytes)
    _require_added(added, size)
    return Upload(id=expected.id, status="pending", size=size, expires_at=added.due_at)


async def _arrived(call: Call, project_id: UUID, file_id: UUID, max_bytes: int) -> arrivals.Arrival:
    async with call.services.database.transaction(call.principal, project_id) as connection:
        row = await _changeable(connection, project_id, file_id)
    if row["status"] == "ready":
        return arrivals.Arrival(whole=True)
    return await arrivals.checked(call.services.store, row, call.progress)


@tool(
    Scope.storage_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    takes_long=True,
    before=_arrived,
    after=_tickets,
    link=FILE_TEMPLATE,
)
async def confirm_upload(
    call: Caller, project_id: ProjectId, file_id: FileId, max_bytes: MaxBytes = USUAL_BYTES
) -> Upload:
    """Make a file ready if its bytes have arrived whole; else get tickets for what is missing."""
    row = None
    async with call.transaction() as connection:
        if call.found.whole:
            keep = timedelta(seconds=call.services.storage.temporary_seconds)
            try:
                row = await files.make_ready(connection, file_id, sha256=call.found.sha256, keep=keep)
            except asyncpg.UniqueViolationError:
                raise _path_taken() from None
        if row is None:
            row = await _changeable(connection, project_id, file_id)
    return uploads.noted(row)


@tool(Scope.storage_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_files(
    call: Caller, project_id: ProjectId, prefix: Prefix = "", limit: Limit = DEFAULT_ROWS, cursor: PathCursor = None
) -> FilePage:
    """List the files of a project by path."""
    rows = await files.page(
        call.services.database,
        call.principal,
        project_id,
        prefix=prefix,
        after=from_path_cursor(cursor),
        limit=limit + 1,
    )
    if not rows:
        await _require_project(call, project_id)
    found = [FileSummary(**_columns(row, FileSummary)) for row in rows[:limit]]
    last = found[-1] if len(rows) > limit else None
    return FilePage(files=found, next_cursor=to_path_cursor(last.path, last.id) if last else None)


@tool(Scope.storage_read, read_only=True, destructive=False, idempotent=True, open_world=False, link=FILE_TEMPLATE)
async def get_file(
    call: Caller,
    project_id: ProjectId,
    file_id: FileId,
    cursor: PathCursor = None,
    max_bytes: MaxBytes = USUAL_BYTES,
) -> FileContent:
    """Read a file: what it is, a ticket to download it, and its text if it is text, in parts."""
    row = await files.read(call.services.database, call.principal, project_id, file_id)
    if row is None:
        await _require_project(call, project_id)
        raise not_found("file")
    content = FileContent(**_shown(row))
    if content.status != "ready":
        return content
    served, shown = served_as(row["content_type"])
    content.ticket = uploads.shown(
        call.services.store.download_ticket(
            files.key_of(row),
            filename=file_name(row["path"]),
            content_type=served,
            inline=shown,
            expires_in=call.services.storage.ticket_seconds,
        )
    )
    if inline.is_text(row["content_type"]):
        room = max_bytes - len(content.model_dump_json().encode()) - FENCES - NOTE_BYTES
        content.text, content.next_cursor = await inline.part(call.services.store, row, cursor, room)
    return content


async def _removal(call: Call, project_id: UUID, file_id: UUID) -> Preview:
    async with call.transaction() as connection:
        row = await _changeable(connection, project_id, file_id)
    return Preview(f"This deletes file {file_id} with its {row['size']} bytes for good.", {"File": row["path"]})


@tool(
    Scope.storage_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_removal,
    target="file_id",
)
async def delete_file(call: Caller, project_id: ProjectId, file_id: FileId) -> DeletedFile:
    """Delete a file for good."""
    async with call.transaction() as connection:
        await _changeable(connection, project_id, file_id)
        await files.start_deleting(connection, file_id)
        await enqueue(connection, DELETE, {}, dedupe=DELETE)
    return DeletedFile(id=file_id)


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    shown = _columns(row, File)
    shown["sha256"] = row["sha256"].hex() if row["sha256"] else None
    return shown


def _columns(row: asyncpg.Record, model: type[BaseModel]) -> dict[str, Any]:
    return {name: row[name] for name in model.model_fields}


async def _changeable(connection: Connection, project_id: UUID, file_id: UUID) -> asyncpg.Record:
    """The file, to who may change it."""
    may = await files.writable(connection, project_id)
    if may is None:
        raise not_found("project")
    if not may:
        raise needs_member()
    row = await files.fetch(connection, file_id)
    if row is None:
        raise not_found("file")
    return row


async def _require_project(call: Call, project_id: UUID) -> None:
    if await projects.read(call.services.database, call.principal, project_id) is None:
        raise not_found("project")


def _require_added(added: files.Added, size: int) -> None:
    match added.outcome:
        case "project_not_found":
            raise not_found("project")
        case "role_insufficient":
            raise needs_member()
        case "path_taken":
            raise _path_taken()
        case "quota_exceeded":
            left = max(0, added.quota - added.used + size)
            raise AppError(
                "quota_exceeded",
                413,
                f"The project may store {added.quota} bytes, {left} of them are free, and the file has {size}.",
                "Delete files it no longer needs (list_files, delete_file), or ask who runs this house for more.",
                details={"ask": {"storage_bytes": added.used}},
            )


def _path_taken() -> AppError:
    return conflict(
        "path_taken",
        "There is a file at this path already, and nothing is overwritten.",
        "Choose another path, or delete that file first (list_files, delete_file).",
        {"arguments": [{"do": "change", "at": "path"}]},
    )
