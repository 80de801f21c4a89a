"""Erasing an end user everywhere. Each function takes a connection inside a caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@traced
async def page(connection: Connection, project_id: UUID, *, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` end users, the newest first, those older than ``before``."""
    return await connection.fetch(
        "SELECT id, issuer, external_id, created_at FROM end_users WHERE project_id = $1"
        " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        *(project_id, before, limit),
    )


@traced
async def fetch(connection: Connection, project_id: UUID, end_user_id: UUID) -> asyncpg.Record | None:
    """``id`` and ``external_id`` of an end user; ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        "SELECT id, external_id FROM end_users WHERE project_id = $1 AND id = $2", project_id, end_user_id
    )


@traced
async def contents(connection: Connection, project_id: UUID, end_user_id: UUID) -> dict[str, int]:
    """How much of what a person would miss there is of an end user."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM threads WHERE project_id = $1 AND end_user_id = $2) AS thread,"
        " (SELECT count(*) FROM runs WHERE project_id = $1 AND end_user_id = $2) AS run,"
        " (SELECT count(*) FROM files WHERE project_id = $1 AND end_user_id = $2) AS file",
        *(project_id, end_user_id),
    )
    return dict(row.items()) if row else {}


@traced
async def erase(connection: Connection, project_id: UUID, end_user_id: UUID) -> bool:
    """Remove everything of an end user but the bytes of files, which the job ``db.storekeeping.DELETE`` removes. False
    when the caller may not, or there is none."""
    return bool(await connection.fetchval("SELECT erase_end_user($1, $2)", project_id, end_user_id))
