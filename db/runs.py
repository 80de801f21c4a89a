"""Runs: starting, ending and cancelling. The SQL itself is in the functions of migration 0041."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import asyncpg

from db.agents import RunSettings, settings_of
from db.errors import AppError, not_found
from db.principal import Principal
from db.run_callers import rights_of
from db.spans import traced
from db.spending import NO_BUDGET, budget_exceeded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from db.database import Connection

CANCEL_CHANNEL: Final = "innkeeper_cancel"
"""Payload: the id of one run that was asked to stop."""

WAITING_CHANNEL: Final = "innkeeper_waiting"
"""No payload: somewhere a run waits for a process."""

CLAIMED_CHANNEL: Final = "innkeeper_claimed"
"""Payload: the id of a run that another process has taken over, and the epoch of the new lease."""

MOST_WAITING: Final = 20
"""Runs in the queue of one thread."""

Outcome = Literal["started", "queued", "attached", "conflict", "busy", "queue_full", "too_many"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
OnBusy = Literal["reject", "enqueue", "interrupt"]
LIVE: Final = ("queued", "running")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be started by ``caller``, as part of the run it is the grant of, if it is one. ``thread`` and
    ``external_id`` are the client's own names, ``input`` is JSON text. Without ``owner`` it waits for any process."""

    caller: Principal
    project_id: UUID
    thread_id: UUID
    thread: str
    id: UUID
    external_id: str
    agent: str
    on_disconnect: str
    on_busy: OnBusy
    input: str
    digest: bytes
    owner: UUID | None
    lease: timedelta
    started_event: bytes

    @property
    def depth(self) -> int:
        return self.caller.run_depth + 1


@dataclass(frozen=True, slots=True)
class Begun:
    """``run_id`` is the run of that name; ``None`` for "busy" and "queue_full".

    ``history``: the thread's messages as one JSON array, for "started" only. ``settings``: as its agent has them now.
    ``seconds``: how long the run may take.
    """

    outcome: Outcome
    run_id: UUID
    thread_id: UUID
    on_disconnect: str
    history: str
    settings: RunSettings
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One pydantic-ai ModelMessage as JSON text."""

    id: UUID
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended and what it used. ``outcome``: that of RUN_FINISHED, ``None`` after an error."""

    status: Status
    error_code: str | None = None
    outcome: Mapping[str, Any] | None = None
    model: str | None = None
    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    messages: Sequence[StoredMessage] = field(default_factory=tuple)


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
    """Start ``run``, put it into its thread's queue, or find the one of that name, in the caller's transaction: one
    compare-and-set on the thread.

    Raises AppError ``project_not_found`` when the caller cannot see the project, ``agent_not_found`` when that has no
    such agent, ``project_read_only`` when the caller may only read there, ``budget_exceeded`` when there is no budget
    for it this month.
    """
    who = run.caller
    if "\x00" in run.agent:
        raise not_found("agent")
    try:
        row = await connection.fetchrow(
            "SELECT * FROM begin_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
            " $19, $20, $21)",
            *(run.project_id, who.end_user_id, run.thread_id, run.thread, run.id, run.external_id),
            *(who.credential_id, who.user_id, sorted(who.scopes), rights_of(who), run.depth, who.run_id),
            *(run.agent, run.on_disconnect, run.on_busy, MOST_WAITING, run.input, run.digest),
            *(run.owner, run.lease, run.started_event),
        )
    except asyncpg.InsufficientPrivilegeError as error:
        raise AppError(
            "project_read_only",
            403,
            "This caller may read the project but not start runs in it.",
            "Ask an administrator of the project for the role 'member'.",
            details={"ask": {"role": "member"}},
        ) from error
    except asyncpg.PostgresError as error:
        if error.sqlstate == NO_BUDGET:
            raise budget_exceeded(error.message, None if who.end_user_id else Decimal(error.detail or "0")) from error
        raise
    if row is None or row["outcome"] == "unknown_project":
        raise not_found("project")
    if row["outcome"] == "unknown_agent":
        raise not_found("agent")
    return Begun(
        row["outcome"],
        row["run_id"],
        row["thread_id"],
        row["on_disconnect"] or "",
        row["history"] or "[]",
        settings_of(json.loads(row["settings"]), json.loads(row["agent"] or "null")),
        row["seconds"] or 0.0,
    )


@traced
async def add_messages(
    connection: Connection,
    project_id: UUID,
    thread_id: UUID,
    run_id: UUID | None,
    end_user_id: UUID | None,
    messages: Sequence[StoredMessage],
) -> None:
    """Append to the thread what the client said, in a transaction that begins or goes on with the thread's one run, or
    (``run_id`` ``None``) that begins the thread."""
    await connection.execute(
        "INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role, content)"
        " SELECT $1, m.id, $2, $3, $4, b.base + m.n, m.role, m.content::jsonb"
        " FROM (SELECT coalesce(max(position), 0) AS base FROM messages WHERE project_id = $1 AND thread_id = $2) b,"
        " unnest($5::uuid[], $6::text[], $7::text[]) WITH ORDINALITY AS m (id, role, content, n)",
        *(project_id, thread_id, run_id, end_user_id),
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
    steps: Sequence[tuple[str, bytes]],
    ending: Ending,
) -> int | None:
    """End a run in one transaction: events from ``first`` on, steps, messages, usage, status, lease.

    None: done. -1: the lease is gone and nothing was written. Else the log's last seq, which ``first`` must follow.
    Doing it twice is the same as doing it once.
    """
    answer = await connection.fetchval(
        "SELECT finish_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        *(owner, project_id, run_id, epoch, first, list(events)),
        [name for name, _value in steps],
        [value for _name, value in steps],
        *(ending.status, ending.error_code),
        None if ending.outcome is None else json.dumps(ending.outcome),
        *(ending.model, ending.requests, ending.tool_calls),
        *(ending.input_tokens, ending.output_tokens, ending.cost_usd),
        [message.id for message in ending.messages],
        [message.role for message in ending.messages],
        [message.content for message in ending.messages],
    )
    return None if answer is None else int(answer)


@traced
async def find(connection: Connection, project_id: UUID, run_id: UUID) -> Known | None:
    """Where a run stands; ``None`` without one that the caller can see."""
    row = await connection.fetchrow(
        "SELECT id, status, last_seq FROM runs WHERE project_id = $1 AND id = $2", project_id, run_id
    )
    return None if row is None else Known(row["id"], row["status"], row["last_seq"])


@traced
async def request_cancel(connection: Connection, project_id: UUID, run_id: UUID) -> bool:
    """Ask whichever process holds the run to end it, or end it where nobody does; False when there is no such live run
    for the caller."""
    return bool(await connection.fetchval("SELECT request_cancel($1, $2)", project_id, run_id))


@traced
async def cancel_others(connection: Connection, project_id: UUID, run_id: UUID) -> None:
    """As ``request_cancel``, for every live run of the project but the one that asks, and those that it is part of:
    with them it would end itself."""
    await connection.execute(
        "WITH RECURSIVE asking (id, parent_id) AS (SELECT id, parent_id FROM runs WHERE project_id = $1 AND id = $2"
        " UNION SELECT r.id, r.parent_id FROM asking a JOIN runs r ON r.project_id = $1 AND r.id = a.parent_id)"
        " SELECT stop_runs($1, array(SELECT id FROM runs"
        " WHERE project_id = $1 AND id NOT IN (SELECT id FROM asking) AND status IN ('queued', 'running')))",
        project_id,
        run_id,
    )


@traced
async def cancel_project(connection: Connection, project_id: UUID) -> int:
    """Ops. Ask every process to end the project's live runs; returns how many there are."""
    return int(await connection.fetchval("SELECT cancel_project_runs($1)", project_id))
