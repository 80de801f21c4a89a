"""Queries of the members of a project. The policies say who may change whom; the database keeps an owner in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

import asyncpg

from db.errors import AppError, conflict
from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

Role: TypeAlias = Literal["owner", "admin", "member", "viewer"]
ROLES: Final[tuple[Role, ...]] = ("owner", "admin", "member", "viewer")
"""From what may most to what may least."""


@traced
async def page(connection: Connection, *, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` members of the transaction's project, ``id, email, name, role, created_at``, by id."""
    return await connection.fetch("SELECT * FROM project_people($1, $2)", after, limit)


@traced
async def role_of(connection: Connection, project_id: UUID, user_id: UUID) -> Role | None:
    """``None`` also where the caller sees nothing."""
    found: Role | None = await connection.fetchval(
        "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2", project_id, user_id
    )
    return found


@traced
async def is_last_owner(connection: Connection, project_id: UUID, user_id: UUID) -> bool:
    """Whether the project would be without an owner without this one, as it stands now."""
    return bool(
        await connection.fetchval(
            "SELECT count(*) = 1 AND bool_and(user_id = $2) FROM project_members"
            " WHERE project_id = $1 AND role = 'owner'",
            *(project_id, user_id),
        )
    )


@traced
async def set_role(connection: Connection, project_id: UUID, user_id: UUID, role: Role) -> bool:
    """False when there is no such member, or the caller may not. Raises ``AppError`` for the last owner."""
    return await _kept(
        connection,
        "UPDATE project_members SET role = $3 WHERE project_id = $1 AND user_id = $2",
        *(project_id, user_id, role),
    )


@traced
async def remove(connection: Connection, project_id: UUID, user_id: UUID) -> bool:
    """End a membership, and with the transaction every key, grant and run that it was. As :func:`set_role`."""
    return await _kept(
        connection, "DELETE FROM project_members WHERE project_id = $1 AND user_id = $2", project_id, user_id
    )


@traced
async def transfer(connection: Connection, user_id: UUID) -> bool:
    """The member becomes an owner of the transaction's project and the caller an admin. False: one of them may not."""
    return bool(await connection.fetchval("SELECT transfer_project($1)", user_id))


async def _kept(connection: Connection, statement: str, *values: object) -> bool:
    try:
        done = await connection.execute(statement, *values)
    except asyncpg.RestrictViolationError:
        raise last_owner() from None
    except asyncpg.InsufficientPrivilegeError:  # a role above what the caller may give
        return False
    return done.endswith(" 1")


def last_owner() -> AppError:
    return conflict(
        "last_owner",
        "This is the last owner of the project, and a project keeps one.",
        "Make another member an owner first (update_member), or hand it over (transfer_project).",
        {"next_tool": "list_members"},
    )
