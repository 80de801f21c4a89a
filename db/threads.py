"""Threads, and runs as callers see them. Each function takes a connection inside a caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.spans import traced
from db.transcript import messages as messages_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from db.database import Connection, Database
    from db.principal import Principal

_RUN: Final = (
    "r.id, r.external_id, r.thread_id, t.external_id AS thread, r.agent, r.model, r.status, r.outcome, r.error_code,"
    " r.requests, r.tool_calls, r.input_tokens, r.output_tokens, r.cost_usd, r.last_seq, r.parent_id, r.created_at,"
    " r.started_at, r.ended_at, r.compacted_at"
)
_THREAD: Final = "t.id, t.external_id, t.name, t.metadata, t.created_at, t.updated_at"


@traced
async def run(connection: Connection, project_id: UUID, run_id: UUID) -> asyncpg.Record | None:
    """A run with its thread's names; ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        f"SELECT {_RUN} FROM runs r JOIN threads t ON t.project_id = r.project_id AND t.id = r.thread_id"  # noqa: S608  fixed text
        " WHERE r.project_id = $1 AND r.id = $2",
        *(project_id, run_id),
    )


@traced
async def project_of_run(database: Database, principal: Principal, run_id: UUID) -> UUID | None:
    """The project of a run, if the caller is of it; a run's id alone says where it is."""
    async with database.transaction(principal) as connection:
        found: UUID | None = await connection.fetchval("SELECT project_of_run($1)", run_id)
    return found


@traced
async def page(connection: Connection, project_id: UUID, *, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` threads, the newest first, those older than ``before``; each with what its last run came to."""
    return await connection.fetch(
        f"SELECT {_THREAD}, r.id AS run_id, r.status AS run_status FROM threads t"  # noqa: S608  fixed text
        " LEFT JOIN LATERAL (SELECT r.id, r.status FROM runs r WHERE r.project_id = t.project_id"
        "   AND r.thread_id = t.id ORDER BY r.id DESC LIMIT 1) r ON true"
        " WHERE t.project_id = $1 AND ($2::uuid IS NULL OR t.id < $2) ORDER BY t.id DESC LIMIT $3",
        *(project_id, before, limit),
    )


@traced
async def fetch(connection: Connection, project_id: UUID, thread_id: UUID) -> asyncpg.Record | None:
    """A thread with its newest run (``run_id``, ``run_status``); ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        f"SELECT {_THREAD}, r.id AS run_id, r.status AS run_status FROM threads t"  # noqa: S608  fixed text
        " LEFT JOIN LATERAL (SELECT r.id, r.status FROM runs r WHERE r.project_id = t.project_id"
        "   AND r.thread_id = t.id ORDER BY r.id DESC LIMIT 1) r ON true"
        " WHERE t.project_id = $1 AND t.id = $2",
        *(project_id, thread_id),
    )


@traced
async def messages(
    connection: Connection, project_id: UUID, thread_id: UUID, *, before: UUID | None = None, limit: int | None = None
) -> list[asyncpg.Record]:
    """The last ``limit`` messages of a thread, those before its message ``before``, in the order they were said."""
    rows = await connection.fetch(
        "SELECT m.id, m.run_id, m.role, m.content, m.position, m.created_at FROM messages m"
        " WHERE m.project_id = $1 AND m.thread_id = $2 AND ($3::uuid IS NULL OR m.position <"
        "   (SELECT b.position FROM messages b WHERE b.project_id = $1 AND b.thread_id = $2 AND b.id = $3))"
        " ORDER BY m.position DESC LIMIT $4",
        *(project_id, thread_id, before, limit),
    )
    return rows[::-1]


@traced
async def has_message(connection: Connection, project_id: UUID, thread_id: UUID, message_id: UUID) -> bool:
    """Whether the message is one of the thread's."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM messages WHERE project_id = $1 AND thread_id = $2 AND id = $3)",
        *(project_id, thread_id, message_id),
    )
    return found


@traced
async def unnamed(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """Inside the project that a job works for: threads without a name in which something was answered, each with its
    first message of a run (``run_id`` and ``content``)."""
    return await connection.fetch(
        "SELECT t.project_id, t.id, m.run_id, m.content FROM threads t JOIN LATERAL ("
        "   SELECT m.run_id, m.content FROM messages m WHERE m.project_id = t.project_id AND m.thread_id = t.id"
        "   AND m.run_id IS NOT NULL ORDER BY m.position LIMIT 1) m ON true"
        " WHERE t.project_id = (SELECT writable_project()) AND t.name IS NULL AND EXISTS (SELECT FROM runs r"
        "   WHERE r.project_id = t.project_id AND r.thread_id = t.id AND r.status = 'succeeded')"
        " ORDER BY t.id LIMIT $1",
        limit,
    )


@traced
async def name_once(connection: Connection, names: Mapping[UUID, str]) -> None:
    """Inside the project that a job works for: give threads names, but for those that have one by now."""
    await connection.execute(
        "UPDATE threads t SET name = n.name FROM unnest($1::uuid[], $2::text[]) AS n (id, name)"
        " WHERE t.project_id = (SELECT writable_project()) AND t.id = n.id AND t.name IS NULL",
        list(names),
        list(names.values()),
    )


@traced
async def state(connection: Connection, project_id: UUID, thread_id: UUID) -> tuple[Any, str | None]:
    """What the thread's client and agents share, ``None`` for nothing yet; and the call that changed it last, if it was
    one."""
    row = await connection.fetchrow(
        "SELECT state, state_set_by FROM threads WHERE project_id = $1 AND id = $2", project_id, thread_id
    )
    return (None, None) if row is None else (row["state"], row["state_set_by"])


@traced
async def keep_state(connection: Connection, project_id: UUID, thread_id: UUID, value: Any, set_by: str | None) -> None:
    """Keep what a thread's client and agents share. ``set_by``: the call that changed it, if it was one."""
    await connection.execute(
        "UPDATE threads SET state = $3, state_set_by = $4, updated_at = now() WHERE project_id = $1 AND id = $2",
        *(project_id, thread_id, value, set_by),
    )


@traced
async def said(connection: Connection, project_id: UUID, run_id: UUID) -> str:
    """The text that the agent has said in a run that is over."""
    rows = await connection.fetch(
        "SELECT m.id, m.run_id, m.content FROM messages m WHERE m.project_id = $1 AND m.run_id = $2"
        " AND m.role = 'assistant' ORDER BY m.position",
        *(project_id, run_id),
    )
    found = [message.get("content") for message in messages_of(rows) if message["role"] == "assistant"]
    return "\n\n".join(text for text in found if text)


@traced
async def writable(connection: Connection, project_id: UUID) -> bool:
    """Whether the caller may write in the transaction's project."""
    return bool(await connection.fetchval("SELECT writable_project() = $1", project_id))


@traced
async def live_runs(connection: Connection, project_id: UUID, thread_id: UUID) -> list[UUID]:
    """The ids of a thread's runs that wait or are at work."""
    rows = await connection.fetch(
        "SELECT id FROM runs WHERE project_id = $1 AND thread_id = $2 AND status IN ('queued', 'running')",
        *(project_id, thread_id),
    )
    return [row["id"] for row in rows]


@traced
async def delete(connection: Connection, project_id: UUID, thread_id: UUID) -> bool:
    """Delete a thread with its runs; false when the caller has no such thread."""
    status = await connection.execute("DELETE FROM threads WHERE project_id = $1 AND id = $2", project_id, thread_id)
    return status == "DELETE 1"
