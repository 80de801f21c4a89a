"""The audit log of a project, for its owners and admins: who did what, when and from where."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from db import audit
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.roles import overseen
from tools.trust import Trusted, Untrusted


class AuditEntry(BaseModel):
    """``operator``: done on the command line of who runs the house; ``user_id`` is then whom it concerns, else who did
    it. ``subject``: the person that the id in ``target`` stands for. ``client``: the name of their key or application.
    """

    id: UUID
    at: datetime
    user_id: UUID
    operator: bool
    email: Untrusted[str] | None
    action: Trusted[str]
    target: Untrusted[str] | None
    subject: Untrusted[str] | None
    detail: Untrusted[str] | None
    address: Trusted[str] | None
    user_agent: Untrusted[str] | None
    client: Untrusted[str] | None
    run_id: UUID | None


class AuditPage(BaseModel):
    entries: list[AuditEntry]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


@tool(Scope.audit_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_audit_entries(
    call: Caller,
    project_id: ProjectId,
    action: Annotated[
        str | None,
        Field(max_length=80, description="Only this act, such as member:role or update_project."),
    ] = None,
    by: Annotated[UUID | None, Field(description="Only acts of this person; an id from list_members.")] = None,
    limit: Limit = DEFAULT_ROWS,
    cursor: Cursor = None,
) -> AuditPage:
    """Read the audit log of a project, newest first: who did what, when, and from where.

    Needs the role owner or admin."""
    before = from_cursor(cursor)
    async with call.transaction() as connection:
        await overseen(connection, project_id)
        found = await audit.of_project(connection, action=action, by=by, before=before, limit=limit + 1)
    shown, more = cut(
        found, limit, lambda act: AuditEntry(**{name: getattr(act, name) for name in AuditEntry.model_fields})
    )
    return AuditPage(entries=shown, next_cursor=more)
