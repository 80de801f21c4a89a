"""What jobs ask about files: inside the project that they work for, or as the ops role, which sees ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

DELETE: Final = "files_delete"
ARRIVED: Final = "file_arrived"
REMOVED: Final = "file_removed"
"""Kinds of jobs: the first for a project, the others with a ``file_id``."""


@traced
async def due_projects(connection: Connection, limit: int) -> list[UUID]:
    """As the ops role: projects with files whose time has come."""
    return [row[0] for row in await connection.fetch("SELECT * FROM projects_with_due_files($1)", limit)]


@traced
async def projects_after(connection: Connection, project_id: UUID, limit: int) -> list[UUID]:
    """As the ops role: projects that store or stored something, in the order of their ids."""
    return [
        row[0] for row in await connection.fetch("SELECT * FROM projects_with_any_files($1, $2)", project_id, limit)
    ]


@traced
async def mark_due(connection: Connection, limit: int) -> int:
    """Begin to delete files whose time has come: uploads nobody confirmed, and temporary ones. How many."""
    status = await connection.execute(
        "UPDATE files SET status = 'deleting', updated_at = now() WHERE project_id = (SELECT writable_project())"
        " AND id IN (SELECT id FROM files WHERE project_id = (SELECT writable_project()) AND expires_at < now()"
        " AND status <> 'deleting' ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        limit,
    )
    return _count(status)


@traced
async def being_deleted(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """Files whose objects are to go."""
    return await connection.fetch(
        "SELECT project_id, id, temporary, upload_id, created_at FROM files"
        " WHERE project_id = (SELECT readable_project()) AND status = 'deleting' ORDER BY id LIMIT $1",
        limit,
    )


@traced
async def forget(connection: Connection, file_ids: Sequence[UUID]) -> None:
    """Remove the rows of files whose objects are gone."""
    await connection.execute(
        "DELETE FROM files WHERE project_id = (SELECT writable_project()) AND id = ANY($1) AND status = 'deleting'",
        list(file_ids),
    )


@traced
async def after(connection: Connection, file_id: UUID, *, temporary: bool, limit: int) -> list[asyncpg.Record]:
    """Files in the order of their ids, which is that of their objects' keys."""
    return await connection.fetch(
        "SELECT id, status, updated_at FROM files WHERE project_id = (SELECT readable_project()) AND id > $1"
        " AND temporary = $2 ORDER BY id LIMIT $3",
        *(file_id, temporary, limit),
    )


@traced
async def existing(connection: Connection, file_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the files that have a row."""
    rows = await connection.fetch(
        "SELECT id FROM files WHERE project_id = (SELECT readable_project()) AND id = ANY($1)", list(file_ids)
    )
    return frozenset(row["id"] for row in rows)


@traced
async def mark_lost(connection: Connection, file_ids: Sequence[UUID]) -> int:
    """Say of files that their objects are not in the store; how many of them were thought to be there."""
    status = await connection.execute(
        "UPDATE files SET status = 'lost', updated_at = now() WHERE project_id = (SELECT writable_project())"
        " AND id = ANY($1) AND status = 'ready'",
        list(file_ids),
    )
    return _count(status)


@traced
async def mark_found(connection: Connection, file_id: UUID) -> bool:
    """Say that the object of a lost file is there again, unless another file has its path by now."""
    status = await connection.execute(
        "UPDATE files f SET status = 'ready', updated_at = now() WHERE f.project_id = (SELECT writable_project())"
        " AND f.id = $1 AND f.status = 'lost' AND NOT EXISTS (SELECT FROM files o WHERE o.project_id = f.project_id"
        " AND o.path = f.path AND o.end_user_id IS NOT DISTINCT FROM f.end_user_id AND o.status = 'ready')",
        file_id,
    )
    return _count(status) > 0


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
