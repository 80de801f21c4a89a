"""Runs: starting, ending, leases and cancelling. The SQL itself is in the functions of migration 0002."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import asyncpg

from db.agents import RunSettings, settings_of
from db.errors import AppError, not_found
from db.spans import traced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.database import Connection

CANCEL_CHANNEL: Final = "innkeeper_cancel"
"""Payload: the id of one run that was asked to stop."""

Outcome = Literal["started", "attached", "conflict", "busy"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
LIVE: Final = ("queued", "running")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be started. ``thread`` and ``external_id`` are the client's own names, ``input`` is JSON text."""

    project_id: UUID
    end_user_id: UUID | None
    thread_id: UUID
    thread: str
    id: UUID
    external_id: str
    credential_id: UUID
    user_id: UUID
    scopes: Sequence[str]
    agent: str
    on_disconnect: str
    input: str
    digest: bytes
    owner: UUID
    lease: timedelta
    started_event: bytes


@dataclass(frozen=True, slots=True)
class Begun:
    """``run_id`` is the run of that name for "started", "attached" and "conflict", the thread's live one for "busy".

    ``history``: the thread's messages as one JSON array, for "started" only. ``settings``: as its agent has them now.
    """

    outcome: Outcome
    run_id: UUID
    thread_id: UUID
    on_disconnect: str
    history: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One pydantic-ai ModelMessage as JSON text."""

    id: UUID
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended and what it used."""

    status: Status
    error_code: str | None = None
    model: str | None = None
    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    messages: Sequence[StoredMessage] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Lease:
    """A run that this process still holds, and whether somebody asked for its end."""

    project_id: UUID
    run_id: UUID
    epoch: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class Known:
    """Where a run stands: ``last_seq`` counts its events."""

    run_id: UUID
    status: Status
    last_seq: int


@traced
async def enter_first_project(connection: Connection) -> UUID | None:
    """Make the caller's oldest project that of this transaction, which began without any; None when there is none."""
    row = await connection.fetchrow(
        "SELECT id, set_config('app.project_id', id::text, true)"
        " FROM (SELECT m.project_id AS id FROM project_members m WHERE m.user_id = acting_user()"
        " ORDER BY m.project_id LIMIT 1) AS p"
    )
    return None if row is None else row["id"]


async def begin(connection: Connection, run: NewRun) -> Begun:
    """Start ``run``, or find the one of that name, in the caller's transaction: one compare-and-set on the thread.

    Raises AppError ``project_not_found`` when the caller cannot see the project, ``agent_not_found`` when that has no
    such agent, ``project_read_only`` when the caller may only read there.
    """
    try:
        row = await connection.fetchrow(
            "SELECT * FROM begin_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            run.project_id,
            run.end_user_id,
            run.thread_id,
            run.thread,
            run.id,
            run.external_id,
            run.credential_id,
            run.user_id,
            list(run.scopes),
            run.agent,
            run.on_disconnect,
            run.input,
            run.digest,
            run.owner,
            run.lease,
            run.started_event,
        )
    except asyncpg.InsufficientPrivilegeError as error:
        raise AppError(
            "project_read_only",
            403,
            "This caller may read the project but not start runs in it.",
            "Ask an administrator of the project for the role 'member'.",
            details={"ask": {"role": "member"}},
        ) from error
    if row is None or row["outcome"] == "unknown_project":
        raise not_found("project")
    if row["outcome"] == "unknown_agent":
        raise not_found("agent")
    settings = settings_of(json.loads(row["settings"]), json.loads(row["agent"] or "null"))
    outcome, on_disconnect, history = row["outcome"], row["on_disconnect"] or "", row["history"] or "[]"
    return Begun(outcome, row["run_id"], row["thread_id"], on_disconnect, history, settings)


@traced
async def add_messages(connection: Connection, run: NewRun, thread_id: UUID, messages: Sequence[StoredMessage]) -> None:
    """Append to the thread what the client said, in the transaction that began the run and holds the thread's row."""
    await connection.execute(
        "INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role, content)"
        " SELECT $1, m.id, $2, $3, $4, b.base + m.n, m.role, m.content::jsonb"
        " FROM (SELECT coalesce(max(position), 0) AS base FROM messages WHERE project_id = $1 AND thread_id = $2) b,"
        " unnest($5::uuid[], $6::text[], $7::text[]) WITH ORDINALITY AS m (id, role, content, n)",
        run.project_id,
        thread_id,
        run.id,
        run.end_user_id,
        [message.id for message in messages],
        [message.role for message in messages],
        [message.content for message in messages],
    )


@traced
async def finish(
    connection: Connection,
    owner: UUID,
    project_id: UUID,
    run_id: UUID,
    epoch: int,
    first: int,
    events: Sequence[bytes],
    ending: Ending,
) -> int | None:
    """End a run in one transaction: events from ``first`` on, messages, usage, status, lease.

    None: done. -1: the lease is gone and nothing was written. Else the log's last seq, which ``first`` must follow.
    Doing it twice is the same as doing it once.
    """
    answer = await connection.fetchval(
        "SELECT finish_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        owner,
        project_id,
        run_id,
        epoch,
        first,
        list(events),
        ending.status,
        ending.error_code,
        ending.model,
        ending.requests,
        ending.tool_calls,
        ending.input_tokens,
        ending.output_tokens,
        ending.cost_usd,
        [message.id for message in ending.messages],
        [message.role for message in ending.messages],
        [message.content for message in ending.messages],
    )
    return None if answer is None else int(answer)


@traced
async def find(connection: Connection, project_id: UUID, run_id: UUID) -> Known | None:
    row = await connection.fetchrow(
        "SELECT id, status, last_seq FROM runs WHERE project_id = $1 AND id = $2", project_id, run_id
    )
    return None if row is None else Known(row["id"], row["status"], row["last_seq"])


@traced
async def request_cancel(connection: Connection, project_id: UUID, run_id: UUID) -> bool:
    """Ask whichever process holds the run to end it; False when there is no such live run for the caller."""
    return bool(await connection.fetchval("SELECT request_cancel($1, $2)", project_id, run_id))


@traced
async def renew_leases(connection: Connection, owner: UUID, run_ids: Sequence[UUID], lease: timedelta) -> list[Lease]:
    """Ops. Those of the runs that ``owner`` still holds, their leases renewed."""
    rows = await connection.fetch("SELECT * FROM renew_leases($1, $2, $3)", owner, list(run_ids), lease)
    return [Lease(row["project_id"], row["run_id"], row["epoch"], row["cancel"]) for row in rows]


@traced
async def end_expired(connection: Connection, event: bytes, code: str, limit: int = 100) -> list[UUID]:
    """Ops. End runs whose process is dead, with ``event`` as their terminal one; returns their ids."""
    rows = await connection.fetch("SELECT * FROM end_expired_runs($1, $2, $3)", event, code, limit)
    return [row["run_id"] for row in rows]


@traced
async def cancel_project(connection: Connection, project_id: UUID) -> int:
    """Ops. Ask every process to end the project's live runs; returns how many there are."""
    return int(await connection.fetchval("SELECT cancel_project_runs($1)", project_id))
