"""Files as resources: each by its id, and the ready one at a path."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import normalize
from uuid import UUID

from db import files
from db.errors import AppError, not_found
from db.scopes import Scope
from tools import inline
from tools.contract import Caller, ProjectId
from tools.files import FILE_TEMPLATE, FileContent, FileId, get_file
from tools.pages import from_path_cursor, to_path_cursor
from tools.paths import Path
from tools.resources import Member, resource
from tools.result import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from db.principal import Principal
    from tools.ports import Services


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
        raise _nothing_there()
    async with call.transaction() as connection:
        file_id = await files.ready_at(connection, normalize("NFC", path))
    if file_id is None:
        raise _nothing_there()
    content: FileContent = await file.function(call, project_id, file_id)
    return content


def _nothing_there() -> AppError:
    return not_found("file", "Use the path of a ready file, as list_files shows it.", {"next_tool": "list_files"})
