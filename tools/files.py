"""Storage: the files of a project. Their bytes go between client and store; here are only rows, and signed tickets.

A file is announced (``create_upload``), sent to the store with a ticket that allows these bytes and no others, and
confirmed. Its bytes never change after that: another version is another file, at a path that is free. What a ticket
holds is a secret for as long as it lasts, so answers are saved without it and signed anew each time they go out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from unicodedata import normalize
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import to_json

from db import files, projects
from db.errors import AppError, conflict, needs_member, not_found
from db.ids import uuid7
from db.jobs import enqueue
from db.scopes import Scope
from db.storekeeping import DELETE
from tools import arrivals, inline
from tools.contract import Call, Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Limit, from_path_cursor, to_path_cursor
from tools.paths import Path, Prefix, file_name
from tools.preview import Preview
from tools.resources import Member, resource
from tools.result import MOST_BYTES, NOTE_BYTES, USUAL_BYTES, MaxBytes
from tools.serving import served_as
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.database import Connection
    from db.principal import Principal
    from tools import store
    from tools.ports import Services

FILE_TEMPLATE: Final = "innkeeper://projects/{project_id}/files/{file_id}"
FENCES: Final = 300
"""What the marks around words of others add."""

_CONTENT_TYPE: Final = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.,+-]+)*", re.ASCII)
"""Commas, which stand in no token, because browsers write ``video/webm;codecs=vp8,opus`` of what they record."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
MOST_METADATA: Final = 2_000


def _content_type(text: str) -> str:
    if not _CONTENT_TYPE.fullmatch(text):
        raise ValueError("must be a MIME type, such as text/plain")
    return text.lower()


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text.lower()):
        raise ValueError("must be 64 hexadecimal digits")
    return text.lower()


def _metadata(notes: dict[str, str]) -> dict[str, str]:
    if len(to_json(notes)) > MOST_METADATA:
        raise ValueError(f"must be at most {MOST_METADATA} bytes of JSON")
    if any("\x00" in text for pair in notes.items() for text in pair):
        raise ValueError("must not contain a NUL character")
    return notes


FileId: TypeAlias = Annotated[UUID, Field(description="As list_files shows it.")]
Size: TypeAlias = Annotated[int, Field(ge=0, description="Bytes.")]
ContentType: TypeAlias = Annotated[str, Field(max_length=100, description="MIME type."), AfterValidator(_content_type)]
Sha256: TypeAlias = Annotated[str, Field(description="Hex."), AfterValidator(_sha256)]
Metadata: TypeAlias = Annotated[dict[str, str], Field(description="Notes."), AfterValidator(_metadata)]
PathCursor: TypeAlias = Annotated[str | None, Field(description="next_cursor of the answer before.")]
Status: TypeAlias = Literal["pending", "ready", "lost"]


class Ticket(BaseModel):
    """An address that allows one thing for a while. ``headers`` are part of what was signed: send them all."""

    method: Literal["GET", "PUT"]
    url: Trusted[str]
    headers: Trusted[dict[str, str]]
    expires_at: datetime


class PartTicket(BaseModel):
    number: int
    offset: int
    size: int
    url: Trusted[str]


class Upload(BaseModel):
    id: UUID
    status: Status
    size: int
    expires_at: datetime | None = Field(description="When a pending upload is given up, or a temporary file deleted.")
    ticket: Ticket | None = Field(default=None, description="Send the bytes with it, then call confirm_upload.")
    parts: list[PartTicket] | None = Field(
        default=None, description="PUT each part of the bytes to its url, then call confirm_upload."
    )
    missing: int | None = Field(default=None, description="How many parts are yet to come, these included.")


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
        saved.ticket = _whole(call, key, saved.size, given["content_type"], given["sha256"], seconds)
        return saved
    row = await files.read(call.services.database, call.principal, project_id, saved.id)
    if row is None:
        raise not_found("file")
    return await _continued(call, row, max_bytes)


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
    return _upload(row)


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
    content.ticket = _ticket(
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


async def _shelved(
    services: Services, caller: Principal, project_id: UUID, after: str | None, limit: int
) -> list[Member]:
    rows = await files.page(
        services.database, caller, project_id, prefix="", after=from_path_cursor(after), limit=limit
    )
    return [
        Member({"file_id": row["id"]}, row["path"], row["content_type"], to_path_cursor(row["path"], row["id"]))
        for row in rows
    ]


async def _beginning(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int
) -> list[asyncpg.Record]:
    """Files whose path begins with what was typed."""
    return await files.page(services.database, caller, project_id, prefix=typed, after=None, limit=limit)


async def _ids(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, _known: Mapping[str, str]
) -> list[str]:
    return [str(row["id"]) for row in await _beginning(services, caller, project_id, typed, limit)]


async def _paths(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, _known: Mapping[str, str]
) -> list[str]:
    rows = await _beginning(services, caller, project_id, typed, limit)
    return list(dict.fromkeys(row["path"] for row in rows))


@resource(
    FILE_TEMPLATE,
    Scope.storage_read,
    mime_type="",
    rest_from="get_file",
    members=_shelved,
    held_by=files.holding,
    completes={"file_id": _ids},
)
async def file(call: Caller, project_id: ProjectId, file_id: FileId) -> FileContent:
    """A file: its text or bytes when they are short, else what get_file says of it."""
    row = await files.read(call.services.database, call.principal, project_id, file_id)
    if row is not None and row["status"] == "ready":
        document = await inline.document(call.services.store, row)
        if document is not None:
            return document  # type: ignore[return-value]  # a resource may give its bytes instead of the model
    content: FileContent = await get_file.function(call, project_id, file_id, max_bytes=MOST_BYTES)
    return content


@resource(
    "innkeeper://projects/{project_id}/paths/{+path}",
    Scope.storage_read,
    mime_type="",
    rest_from="get_file",
    completes={"path": _paths},
)
async def file_at_path(call: Caller, project_id: ProjectId, path: Path) -> FileContent:
    """The ready file at a path."""
    if "\x00" in path:
        raise not_found("file")
    async with call.transaction() as connection:
        file_id = await files.ready_at(connection, normalize("NFC", path))
    if file_id is None:
        raise not_found("file")
    content: FileContent = await file.function(call, project_id, file_id)
    return content


def _upload(row: asyncpg.Record) -> Upload:
    return Upload(id=row["id"], status=row["status"], size=row["size"], expires_at=row["expires_at"])


async def _continued(call: Call, row: asyncpg.Record, max_bytes: int) -> Upload:
    """How far an upload has come, with tickets for the next of it: as many as an answer of ``max_bytes`` holds."""
    upload = _upload(row)
    if upload.status != "pending":
        return upload
    rules, store = call.services.storage, call.services.store
    key = files.key_of(row)
    seconds = _seconds_left(row, rules.ticket_seconds)
    if upload.size <= rules.single_bytes and row["upload_id"] is None:
        sha256 = row["sha256"].hex() if row["sha256"] else None
        upload.ticket = _whole(call, key, upload.size, row["content_type"], sha256, seconds)
        return upload
    upload_id = row["upload_id"] or await _begun(call, row, key)
    missing = await arrivals.missing(store, row, upload_id)
    upload.missing, upload.parts = len(missing), []
    room = max_bytes - len(upload.model_dump_json().encode()) - NOTE_BYTES
    for number, offset, size in missing:
        ticket = store.part_ticket(key, upload_id, number, size, seconds)
        part = PartTicket(number=number, offset=offset, size=size, url=ticket.url)
        room -= len(part.model_dump_json().encode()) + 1
        if room < 0 and upload.parts:
            break
        upload.parts.append(part)
    return upload


def _whole(call: Call, key: str, size: int, content_type: str, sha256: str | None, seconds: int) -> Ticket:
    """A ticket for all bytes of a file at once."""
    return _ticket(
        call.services.store.upload_ticket(key, size=size, content_type=content_type, sha256=sha256, expires_in=seconds)
    )


async def _begun(call: Call, row: asyncpg.Record, key: str) -> str:
    """Begin an upload in parts. Two callers may at once: the one that is noted first is the one that counts."""
    begun = await call.services.store.start_multipart(key, row["content_type"])
    async with call.services.database.transaction(call.principal, row["project_id"]) as connection:
        noted = await files.remember_upload(connection, row["id"], begun)
    if noted != begun:
        await call.services.store.abort_multipart(key, begun)
    if noted is None:
        raise not_found("file")
    return noted


def _seconds_left(row: asyncpg.Record, most: int) -> int:
    """How long a ticket may be good: never longer than the upload is waited for."""
    left = most if row["expires_at"] is None else int((row["expires_at"] - datetime.now(UTC)).total_seconds())
    return max(1, min(most, left))


def _ticket(signed: store.Ticket) -> Ticket:
    return Ticket.model_validate(signed, from_attributes=True)


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
