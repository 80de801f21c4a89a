"""Members of a project and their roles. What each role may do: ``docs/members.md``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import members
from db.errors import conflict, not_found
from db.members import Role
from db.scopes import Scope
from tools.contract import Call, Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor
from tools.preview import Preview
from tools.roles import administered, needs_owner, owned, readable
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


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


MemberId: TypeAlias = Annotated[UUID, Field(description="From list_members.")]
RoleAfter: TypeAlias = Annotated[
    Role,
    Field(description="viewer reads; member also works; admin also manages settings, keys and people; owner all."),
]


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
