"""Invitations to become a member of a project: tools of the family ``members``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from db import invitations
from db.errors import not_found
from db.invitations import InvitedRole, Sent
from db.scopes import Scope
from tools.contract import Call, Caller, ProjectId, tool
from tools.mailboxes import Mailbox
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.roles import administered, overseen
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

FAMILY: Final = "members"
UNMAILED: Final = "This house sends no mail: open url, where a person gets the link once, to hand it on."


class Invitation(BaseModel):
    id: UUID
    email: Untrusted[str]
    role: InvitedRole
    invited_by: UUID
    sent_at: datetime
    expires_at: datetime
    expired: bool


class InvitationPage(BaseModel):
    invitations: list[Invitation]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class SentInvitation(BaseModel):
    id: UUID
    expires_at: datetime
    mailed: bool = Field(description="Whether a mail with the link is on its way.")
    url: Trusted[str] = Field(description="Page of the project's members and invitations.")
    note: Trusted[str] | None = None


class RevokedInvitation(BaseModel):
    id: UUID
    revoked: Literal[True] = True


def _address(text: str) -> str:
    return Mailbox.parse(text).key


Address: TypeAlias = Annotated[str, Field(description="Such as ada@example.org."), AfterValidator(_address)]
InvitationId: TypeAlias = Annotated[UUID, Field(description="From list_invitations.")]
RoleInvited: TypeAlias = Annotated[InvitedRole, Field(description="What they are once they accept.")]


@tool(Scope.members_read, family=FAMILY, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_invitations(
    call: Caller, project_id: ProjectId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> InvitationPage:
    """List the invitations that wait for an answer, newest first. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await overseen(connection, project_id)
        rows = await invitations.page(connection, project_id, before=from_cursor(cursor), limit=limit + 1)
    shown, more = cut(rows, limit, _invitation)
    return InvitationPage(invitations=shown, next_cursor=more)


async def _inviting(call: Call, project_id: UUID, email: str, role: InvitedRole) -> Preview:
    async with call.transaction() as connection:
        project = await administered(connection, project_id)
    effect = f"This invites somebody to project {project_id} as {role}; they get a mail with the project's name."
    return Preview(effect, {"Project": project["name"], "Address": email})


@tool(
    Scope.members_write,
    family=FAMILY,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=True,
    preview=_inviting,
    target="email",
)
async def invite_member(
    call: Caller, project_id: ProjectId, email: Address, role: RoleInvited = "member"
) -> SentInvitation:
    """Invite somebody to a project by mail. The link is good for 7 days, for that address alone.

    Needs the role owner or admin. Inviting an address again replaces its link."""
    async with call.transaction() as connection:
        await administered(connection, project_id)
        sent = await invitations.invite(
            connection, project_id, call.principal.user_id, email, role, seal=call.services.invitations.seal
        )
    return _sent(call, project_id, sent)


async def _resending(call: Call, project_id: UUID, invitation_id: UUID) -> Preview:
    effect = f"This sends invitation {invitation_id} of project {project_id} again, with a new link."
    return await _preview(call, project_id, invitation_id, effect)


@tool(
    Scope.members_write,
    family=FAMILY,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=True,
    preview=_resending,
    target="invitation_id",
)
async def resend_invitation(call: Caller, project_id: ProjectId, invitation_id: InvitationId) -> SentInvitation:
    """Send an invitation again, with a new link for another 7 days. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await _waiting(connection, project_id, invitation_id)
        sent = await invitations.resend(
            connection, project_id, call.principal.user_id, invitation_id, seal=call.services.invitations.seal
        )
    return _sent(call, project_id, sent)


async def _revocation(call: Call, project_id: UUID, invitation_id: UUID) -> Preview:
    effect = f"This takes invitation {invitation_id} to project {project_id} back; its link opens nothing then."
    return await _preview(call, project_id, invitation_id, effect)


@tool(
    Scope.members_write,
    family=FAMILY,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_revocation,
    target="invitation_id",
)
async def revoke_invitation(call: Caller, project_id: ProjectId, invitation_id: InvitationId) -> RevokedInvitation:
    """Take an invitation back: its link opens nothing any more. Needs the role owner or admin."""
    async with call.transaction() as connection:
        await _waiting(connection, project_id, invitation_id)
        if not await invitations.revoke(connection, project_id, invitation_id):
            raise not_found("invitation")
    return RevokedInvitation(id=invitation_id)


async def _waiting(
    connection: Connection, project_id: UUID, invitation_id: UUID
) -> tuple[asyncpg.Record, asyncpg.Record]:
    project = await administered(connection, project_id)
    row = await invitations.fetch(connection, project_id, invitation_id)
    if row is None:
        raise not_found("invitation")
    return project, row


def _sent(call: Call, project_id: UUID, sent: Sent) -> SentInvitation:
    note = None if sent.mailed else UNMAILED
    url = call.services.pages.members(project_id)
    return SentInvitation(id=sent.id, expires_at=sent.expires_at, mailed=sent.mailed, url=url, note=note)


def _invitation(row: asyncpg.Record) -> Invitation:
    expired = row["expires_at"] <= datetime.now(UTC)
    columns = {"email": row["address"], "expired": expired, **dict(row.items())}
    return Invitation(**{name: columns[name] for name in Invitation.model_fields})


async def _preview(call: Call, project_id: UUID, invitation_id: UUID, effect: str) -> Preview:
    async with call.transaction() as connection:
        project, row = await _waiting(connection, project_id, invitation_id)
    return Preview(effect, {"Project": project["name"], "Address": row["address"]})
