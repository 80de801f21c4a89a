"""What a role in a project allows, said to who may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

from db import audit, projects
from db.errors import AppError, not_found

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


async def readable(connection: Connection, project_id: UUID) -> None:
    """Raises ``AppError`` to who may not read the project."""
    if await projects.fetch(connection, project_id) is None:
        raise not_found("project")


async def administered(connection: Connection, project_id: UUID) -> asyncpg.Record:
    """The project, to who may change and delete it. Raises ``AppError`` to others."""
    return await _allowed(connection, project_id, projects.administered, needs_administrator)


async def overseen(connection: Connection, project_id: UUID) -> asyncpg.Record:
    """The project, to its owners and admins, also by a key that only reads. Raises ``AppError`` to others."""
    return await _allowed(connection, project_id, audit.may_read, needs_administrator)


async def owned(connection: Connection, project_id: UUID) -> asyncpg.Record:
    """The project, to its owners. Raises ``AppError`` to others."""
    return await _allowed(connection, project_id, projects.owned, needs_owner)


async def _allowed(
    connection: Connection,
    project_id: UUID,
    may: Callable[[Connection, UUID], Awaitable[bool]],
    refusal: Callable[[], AppError],
) -> asyncpg.Record:
    row = await projects.fetch(connection, project_id)
    if row is None:
        raise not_found("project")
    if not await may(connection, project_id):
        raise refusal()
    return row


def needs_owner() -> AppError:
    return AppError(
        "role_insufficient",
        403,
        "Only an owner of the project may do this.",
        "Ask an owner of the project (list_members shows them) to do it, or to make you one.",
        details={"ask": {"role": "owner"}},
    )


def needs_administrator() -> AppError:
    return AppError(
        "role_insufficient",
        403,
        "Your role in this project does not allow this.",
        "Ask an owner or admin of the project to do it, or to change your role.",
        details={"ask": {"role": "admin"}},
    )
