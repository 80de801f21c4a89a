"""End users: the people who use a project's own product. Their threads, runs and files are theirs, and go with them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import erasing
from db.errors import not_found
from db.jobs import enqueue
from db.scopes import Scope
from db.storekeeping import DELETE
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, cut, from_cursor
from tools.preview import Preview
from tools.roles import administered, readable
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    from db.database import Connection

EndUserId: TypeAlias = Annotated[UUID, Field(description="From list_end_users.")]


class EndUser(BaseModel):
    id: UUID
    issuer: Untrusted[str] = Field(description="Whose name it is; empty: the product's own server's.")
    external_id: Untrusted[str] = Field(description="What that calls them.")
    created_at: datetime


class EndUserPage(BaseModel):
    end_users: list[EndUser]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class DeletedEndUser(BaseModel):
    id: UUID
    deleted: Literal[True] = True


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_end_users(call: Caller, project_id: ProjectId, cursor: Cursor = None) -> EndUserPage:
    """List the end users of a project, newest first."""
    async with call.transaction() as connection:
        rows = await erasing.page(connection, project_id, before=from_cursor(cursor), limit=DEFAULT_ROWS + 1)
        if not rows:
            await readable(connection, project_id)
    shown, more = cut(rows, DEFAULT_ROWS, lambda row: EndUser(**row))
    return EndUserPage(end_users=shown, next_cursor=more)


async def _erasure(call: Caller, project_id: UUID, end_user_id: UUID) -> Preview:
    async with call.transaction() as connection:
        row = await _found(connection, project_id, end_user_id)
        counts = await erasing.contents(connection, project_id, end_user_id)
    held = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count)
    told = f", with {held}" if held else ""
    return Preview(f"This deletes end user {end_user_id} for good{told}.", {"End user": row["external_id"]})


@tool(
    Scope.projects_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_erasure,
    target="end_user_id",
)
async def delete_end_user(call: Caller, project_id: ProjectId, end_user_id: EndUserId) -> DeletedEndUser:
    """Erase an end user with all threads, runs, files, mails and tokens of theirs. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await _found(connection, project_id, end_user_id)
        if not await erasing.erase(connection, project_id, end_user_id):
            raise not_found("end_user")
        await enqueue(connection, DELETE, {}, dedupe=DELETE)
    return DeletedEndUser(id=end_user_id)


async def _found(connection: Connection, project_id: UUID, end_user_id: UUID) -> Any:
    """The end user, to who may erase them."""
    await administered(connection, project_id)
    row = await erasing.fetch(connection, project_id, end_user_id)
    if row is None:
        raise not_found("end_user")
    return row
