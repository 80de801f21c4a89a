"""Threads and messages by pages, either way round; and the threads that their clients make, name and describe
themselves. Each function takes a connection inside a caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import runs, threads
from db.runs import LIVE
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

_LIVE: Final = ", ".join(f"'{status}'" for status in LIVE)
_RUN: Final = "FROM runs r WHERE r.project_id = t.project_id AND r.thread_id = t.id AND r.status"
_THREADS: Final = (
    "SELECT t.id, t.external_id, t.end_user_id, t.name, t.metadata, t.created_at, t.updated_at,"  # noqa: S608  fixed text
    " u.external_id AS user_key, l.id AS live_id, l.status AS live_status, c.id AS completed_id,"
    " e.id AS ended_id, e.status AS ended_status, e.error_code, e.outcome FROM threads t"
    " LEFT JOIN end_users u ON u.project_id = t.project_id AND u.id = t.end_user_id"
    "   AND u.issuer IN ('', '~unverified')"
    f" LEFT JOIN LATERAL (SELECT r.id, r.status {_RUN} IN ({_LIVE})"
    "   ORDER BY r.status = 'running' DESC, r.id LIMIT 1) l ON true"
    f" LEFT JOIN LATERAL (SELECT r.id {_RUN} = 'succeeded' ORDER BY r.id DESC LIMIT 1) c ON true"
    f" LEFT JOIN LATERAL (SELECT r.id, r.status, r.error_code, r.outcome {_RUN} NOT IN ({_LIVE})"
    "   ORDER BY r.id DESC LIMIT 1) e ON true"
    " WHERE t.project_id = $1"
)
"""``user_key``: what the project's own server calls its end user, if it does. ``live``: the run that goes on, or is
next in line, ``completed``: the last one that succeeded, ``ended``: the last one that is over."""


@traced
async def page(connection: Connection, project_id: UUID, *, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` threads, the newest first, those older than ``before``."""
    return await connection.fetch(
        f"{_THREADS} AND ($2::uuid IS NULL OR t.id < $2) ORDER BY t.id DESC LIMIT $3", project_id, before, limit
    )


@traced
async def fetch(connection: Connection, project_id: UUID, thread_id: UUID) -> asyncpg.Record | None:
    return await connection.fetchrow(f"{_THREADS} AND t.id = $2", project_id, thread_id)


@traced
async def hold(connection: Connection, project_id: UUID, thread_id: UUID) -> bool:
    """Lock a thread, so that no run of it begins; false when the caller may not write it."""
    query = "SELECT true FROM threads WHERE project_id = $1 AND id = $2 FOR UPDATE"
    return bool(await connection.fetchval(query, project_id, thread_id))


@traced
async def create(
    connection: Connection, project_id: UUID, thread_id: UUID, end_user_id: UUID | None, metadata: dict[str, Any]
) -> None:
    """A thread whose client calls it by its id. Raises asyncpg's ``InsufficientPrivilegeError`` for who only reads."""
    await connection.execute(
        "INSERT INTO threads (project_id, id, end_user_id, external_id, metadata)"
        " VALUES ($1, $2::uuid, $3, $2::uuid::text, $4)",
        *(project_id, thread_id, end_user_id, metadata),
    )


@traced
async def describe(
    connection: Connection, project_id: UUID, thread_id: UUID, name: str | None, metadata: dict[str, Any] | None
) -> bool:
    """Give a thread a name, further data, or both; false when the caller may not write it."""
    status = await connection.execute(
        "UPDATE threads SET name = coalesce($3, name), metadata = coalesce($4, metadata), updated_at = now()"
        " WHERE project_id = $1 AND id = $2",
        *(project_id, thread_id, name, metadata),
    )
    return status == "UPDATE 1"


async def erase(connection: Connection, project_id: UUID, thread_id: UUID) -> bool:
    """Delete a thread, and ask for the end of its runs; false when the caller may not."""
    for run_id in await threads.live_runs(connection, project_id, thread_id):
        await runs.request_cancel(connection, project_id, run_id)
    return await threads.delete(connection, project_id, thread_id)


@traced
async def messages(
    connection: Connection, project_id: UUID, thread_id: UUID, *, at: UUID | None, limit: int | None, newest_first: bool
) -> list[asyncpg.Record]:
    """Up to ``limit`` messages of a thread from the message ``at`` on, and with it; each with the ``status`` of its
    run."""
    sign, order = ("<=", "DESC") if newest_first else (">=", "ASC")
    return await connection.fetch(
        "SELECT m.id, m.run_id, m.role, m.content, m.position, m.created_at, r.status FROM messages m"  # noqa: S608  fixed text
        " LEFT JOIN runs r ON r.project_id = m.project_id AND r.id = m.run_id"
        f" WHERE m.project_id = $1 AND m.thread_id = $2 AND ($3::uuid IS NULL OR m.position {sign}"
        "   (SELECT b.position FROM messages b WHERE b.project_id = $1 AND b.thread_id = $2 AND b.id = $3))"
        f" ORDER BY m.position {order} LIMIT $4",
        *(project_id, thread_id, at, limit),
    )
