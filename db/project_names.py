"""Projects looked up by what people type: a name or an id, whole or its beginning. Only the caller's own are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

_MINE: Final = (
    "SELECT p.id, p.name FROM project_members m JOIN projects p ON p.id = m.project_id"
    " WHERE m.user_id = $1 AND ($2::uuid IS NULL OR p.id = $2)"
)


async def beginning_with(
    connection: Connection, user_id: UUID, *, only: UUID | None, typed: str, limit: int
) -> list[asyncpg.Record]:
    """Up to ``limit`` projects of the user whose name or id begins with ``typed``, whatever its case, by name."""
    return await connection.fetch(
        f"{_MINE} AND (starts_with(lower(p.name), lower($3)) OR starts_with(p.id::text, lower($3)))"
        " ORDER BY lower(p.name), p.id LIMIT $4",
        *(user_id, only, typed, limit),
    )


async def called(connection: Connection, user_id: UUID, *, only: UUID | None, said: str) -> list[asyncpg.Record]:
    """The projects of the user that ``said`` can mean: the one with this id, else those with this name; at most two."""
    return await connection.fetch(
        f"{_MINE} AND (p.id::text = lower($3) OR lower(p.name) = lower($3))"
        " ORDER BY (p.id::text = lower($3)) DESC, p.id LIMIT 2",
        *(user_id, only, said),
    )
