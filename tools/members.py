"""Members of a project and their roles, and invitations to become one. What each role may do: ``docs/members.md``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from db import invitations, members
from db.errors import conflict, not_found
from db.invitations import InvitedRole, Sent
from db.members import Role
from db.scopes import Scope
from tools.contract import Call, Caller, ProjectId, tool
from tools.mailboxes import Mailbox
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.roles import administered, needs_owner, overseen, owned, readable
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

UNMAILED: Final = "This house sends no mail: open url, where a person gets the link once, to hand it on."


class Member(BaseModel):
    id: UUID
    email: Untrusted[str]
    name: Untrusted[str]
    role: Role
    you: bool
    created_at: datetime


class MemberPage(BaseModel):
    members: list[Member]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class MemberRole(BaseModel):
    id: UUID
    role: Role


class RemovedMember(BaseModel):
    id: UUID
    removed: Literal[True] = True


class LeftProject(BaseModel):
    id: UUID
    left: Literal[True] = True


class Transferred(BaseModel):
    id: UUID
    owner: UUID
    your_role: Literal["admin"] = "admin"


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
MemberId: TypeAlias = Annotated[UUID, Field(description="From list_members.")]
InvitationId: TypeAlias = Annotated[UUID, Field(description="From list_invitations.")]
RoleAfter: TypeAlias = Annotated[
    Role,
    Field(description="viewer reads; member also works; admin also manages settings, keys and people; owner all."),
]
RoleInvited: TypeAlias = Annotated[InvitedRole, Field(description="What they are once they accept.")]


@tool(Scope.members_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_members(
    call: Caller, project_id: ProjectId, limit: Limit = DEFAULT_ROWS, cursor: Cursor = None
) -> MemberPage:
    """List who works on a project, and in which role."""
    async with call.transaction() as connection:
        rows = await members.page(connection, after=from_cursor(cursor), limit=limit + 1)
        if not rows:
            await readable(connection, project_id)
    shown, more = cut(rows, limit, lambda row: Member(**row, you=row["id"] == call.principal.user_id))
    return MemberPage(members=shown, next_cursor=more)


async def _changing(call: Call, project_id: UUID, member_id: UUID, role: Role) -> Preview:
    async with call.transaction() as connection:
        project, before = await _changeable(connection, project_id, member_id, role)
    effect = f"This makes member {member_id} of project {project_id}, who is {before}, {role}."
    return Preview(effect, {"Project": project["name"]})


@tool(
    Scope.members_write,
    read_only=False,
    destructive=False,
    idempotent=True,
    open_world=False,
    preview=_changing,
    target="member_id",
    asks_when=lambda given: given.get("role") in ("owner", "admin"),
)
async def update_member(call: Caller, project_id: ProjectId, member_id: MemberId, role: RoleAfter) -> MemberRole:
    """Change a member's role. Needs the role owner or admin; what concerns owners needs the role owner.

    Making somebody admin or owner asks a person first."""
    async with call.transaction() as connection:
        await _changeable(connection, project_id, member_id, role)
        if not await members.set_role(connection, project_id, member_id, role):
            raise needs_owner()
    return MemberRole(id=member_id, role=role)


async def _removal(call: Call, project_id: UUID, member_id: UUID) -> Preview:
    async with call.transaction() as connection:
        project, role = await _removable(connection, project_id, member_id, call.principal.user_id)
    effect = (
        f"This removes member {member_id} ({role}) from project {project_id}; their keys and runs there end at once."
    )
    return Preview(effect, {"Project": project["name"]})


@tool(
    Scope.members_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_removal,
    target="member_id",
)
async def remove_member(call: Caller, project_id: ProjectId, member_id: MemberId) -> RemovedMember:
    """Remove somebody from a project; their keys and runs there end at once.

    Needs the role owner or admin, and owner for an owner."""
    async with call.transaction() as connection:
        await _removable(connection, project_id, member_id, call.principal.user_id)
        if not await members.remove(connection, project_id, member_id):
            raise needs_owner()
    return RemovedMember(id=member_id)


async def _leaving(call: Call, project_id: UUID) -> Preview:
    async with call.transaction() as connection:
        await readable(connection, project_id)
        await _not_the_last(connection, project_id, call.principal.user_id)
    return Preview(f"After this you are no member of project {project_id} any more; your keys and runs there end.")


@tool(
    Scope.members_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    ends_project=True,
    preview=_leaving,
)
async def leave_project(call: Caller, project_id: ProjectId) -> LeftProject:
    """Leave a project. Its last owner cannot: hand it over with transfer_project first."""
    async with call.transaction() as connection:
        await readable(connection, project_id)
        if not await members.remove(connection, project_id, call.principal.user_id):
            raise not_found("project")
    return LeftProject(id=project_id)


async def _handing_over(call: Call, project_id: UUID, member_id: UUID) -> Preview:
    async with call.transaction() as connection:
        project = await _transferable(connection, project_id, member_id, call.principal.user_id)
    effect = f"This makes member {member_id} an owner of project {project_id}, and you an admin."
    return Preview(effect, {"Project": project["name"]})


@tool(
    Scope.members_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_handing_over,
    target="member_id",
)
async def transfer_project(call: Caller, project_id: ProjectId, member_id: MemberId) -> Transferred:
    """Hand a project over to another member, who becomes an owner; you become an admin. Needs the role owner."""
    async with call.transaction() as connection:
        await _transferable(connection, project_id, member_id, call.principal.user_id)
        if not await members.transfer(connection, member_id):
            raise needs_owner()
    return Transferred(id=project_id, owner=member_id)


@tool(Scope.members_read, read_only=True, destructive=False, idempotent=True, open_world=False)
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
    async with call.transaction() as connection:
        project, row = await _waiting(connection, project_id, invitation_id)
    effect = f"This sends invitation {invitation_id} of project {project_id} again, with a new link."
    return Preview(effect, {"Project": project["name"], "Address": row["address"]})


@tool(
    Scope.members_write,
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
    async with call.transaction() as connection:
        project, row = await _waiting(connection, project_id, invitation_id)
    effect = f"This takes invitation {invitation_id} to project {project_id} back; its link opens nothing then."
    return Preview(effect, {"Project": project["name"], "Address": row["address"]})


@tool(
    Scope.members_write,
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


async def _changeable(
    connection: Connection, project_id: UUID, member_id: UUID, role: Role
) -> tuple[asyncpg.Record, Role]:
    """The project, and the member's role before. Raises ``AppError`` to who may not change it to ``role``."""
    project = await administered(connection, project_id)
    before = await members.role_of(connection, project_id, member_id)
    if before is None:
        raise not_found("member")
    if "owner" in (before, role):
        await owned(connection, project_id)
    if role != "owner":
        await _not_the_last(connection, project_id, member_id)
    return project, before


async def _removable(
    connection: Connection, project_id: UUID, member_id: UUID, caller: UUID
) -> tuple[asyncpg.Record, Role]:
    project = await administered(connection, project_id)
    if member_id == caller:
        raise conflict(
            "member_is_you",
            "This is you, and nobody removes themselves by mistake.",
            "Use leave_project to leave.",
            {"next_tool": "leave_project"},
        )
    role = await members.role_of(connection, project_id, member_id)
    if role is None:
        raise not_found("member")
    if role == "owner":
        await owned(connection, project_id)
    return project, role


async def _not_the_last(connection: Connection, project_id: UUID, member_id: UUID) -> None:
    """So that nobody is asked about it; the database refuses it whoever does."""
    if await members.is_last_owner(connection, project_id, member_id):
        raise members.last_owner()


async def _transferable(connection: Connection, project_id: UUID, member_id: UUID, caller: UUID) -> asyncpg.Record:
    project = await owned(connection, project_id)
    if await members.role_of(connection, project_id, member_id) is None:
        raise not_found("member")
    if member_id == caller:
        raise conflict(
            "member_is_you",
            "This is you: a project is handed over to somebody else.",
            "Name another member.",
            {"next_tool": "list_members"},
        )
    return project


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
