"""Runs: what the agents of a project do. A run goes on by itself once it is started, whoever waits for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import agents, events, runs, threads
from db.errors import needs_member, not_found
from db.ids import uuid7
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, cut, from_cursor
from tools.roles import readable
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

RunId: TypeAlias = Annotated[UUID, Field(description="From start_run.")]
OnBusy: TypeAlias = Literal["reject", "enqueue", "interrupt"]
Status: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]


class AgentSummary(BaseModel):
    id: UUID
    name: Trusted[str]
    description: Untrusted[str]
    model: Untrusted[str] | None


class AgentPage(BaseModel):
    agents: list[AgentSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class StartedRun(BaseModel):
    id: UUID
    thread_id: UUID
    status: Literal["queued"] = "queued"


class Run(BaseModel):
    id: UUID
    thread_id: UUID
    agent: Trusted[str]
    status: Status
    text: Untrusted[str] = Field(description="What the agent has said.")
    outcome: Untrusted[dict[str, Any]] | None = Field(description="How it ended: also the calls and questions it left.")
    error_code: Trusted[str] | None
    error: Untrusted[str] | None = Field(description="Why it failed; absent when its log is gone.")
    requests: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = Field(description="Absent when a price is unknown.")
    created_at: datetime
    ended_at: datetime | None


class CancelledRun(BaseModel):
    id: UUID
    status: Status


@dataclass(frozen=True, slots=True)
class Errand:
    """Implements ``tools.ports.Errand``."""

    agent: str
    message: str
    thread: str
    new_thread_id: UUID
    on_busy: OnBusy


@tool(Scope.runs_write, read_only=False, destructive=False, idempotent=False, open_world=False)
async def start_run(
    call: Caller,
    project_id: ProjectId,
    message: Annotated[str, Field(min_length=1, max_length=100_000, description="What the user says.")],
    agent: Annotated[str, Field(max_length=64, description="Its name.")] = agents.DEFAULT,
    thread_id: Annotated[UUID | None, Field(description="To go on in; else a new one.")] = None,
    on_busy: Annotated[OnBusy, Field(description="If the thread has a run.")] = "reject",
) -> StartedRun:
    """Have an agent answer a message. It works by itself; follow it with get_run."""
    async with call.transaction() as connection:
        new = uuid7()
        name = str(new)
        if thread_id is not None:
            row = await threads.fetch(connection, project_id, thread_id)
            if row is None:
                await readable(connection, project_id)
                raise not_found("thread")
            name = row["external_id"]
        errand = Errand(agent, message, name, new, on_busy)
        run_id, thread_id = await call.services.runs.begin(connection, call.principal, project_id, errand)
    return StartedRun(id=run_id, thread_id=thread_id)


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True)
async def get_run(
    call: Caller,
    project_id: ProjectId,
    run_id: RunId,
    wait_seconds: Annotated[int, Field(ge=0, le=300, description="For its end.")] = 0,
) -> Run:
    """See how a run stands and what its agent has said. get_thread has all of it."""
    async with call.transaction() as connection:
        row = await _found(connection, project_id, run_id)
    text = None
    if row["ended_at"] is None:
        text = await call.services.runs.watch(call.principal, project_id, run_id, wait_seconds, call.listener)
    async with call.transaction() as connection:
        row = await _found(connection, project_id, run_id)
        if row["ended_at"] is not None or text is None:
            text = await threads.said(connection, project_id, run_id)
        error = await _why(connection, project_id, row) if row["status"] == "failed" else None
    return Run(
        text=text, error=error, **{name: row[name] for name in Run.model_fields if name not in ("text", "error")}
    )


@tool(Scope.runs_write, read_only=False, destructive=False, idempotent=True, open_world=False)
async def cancel_run(call: Caller, project_id: ProjectId, run_id: RunId) -> CancelledRun:
    """End a run soon; what was said stays."""
    async with call.transaction() as connection:
        asked = await runs.request_cancel(connection, project_id, run_id)
        row = await _found(connection, project_id, run_id)
        if not asked and row["status"] in runs.LIVE:
            raise needs_member()
    return CancelledRun(id=run_id, status=row["status"])


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_agents(call: Caller, project_id: ProjectId, cursor: Cursor = None) -> AgentPage:
    """List the agents that can be run in a project."""
    async with call.transaction() as connection:
        rows = await agents.page(connection, project_id, after=from_cursor(cursor), limit=DEFAULT_ROWS + 1)
        if not rows:
            await readable(connection, project_id)
    shown, more = cut(
        rows, DEFAULT_ROWS, lambda row: AgentSummary(**{name: row[name] for name in AgentSummary.model_fields})
    )
    return AgentPage(agents=shown, next_cursor=more)


async def _found(connection: Connection, project_id: UUID, run_id: UUID) -> asyncpg.Record:
    row = await threads.run(connection, project_id, run_id)
    if row is None:
        await readable(connection, project_id)
        raise not_found(
            "run", "Use the id that start_run gave, or list_threads to see what ran.", {"next_tool": "list_threads"}
        )
    return row


async def _why(connection: Connection, project_id: UUID, row: asyncpg.Record) -> str | None:
    """What the last event of a failed run says. Its code is in the row, the words are in the log alone."""
    last = await events.read(connection, project_id, row["id"], row["last_seq"] - 1)
    return json.loads(last[-1][1])["message"] if last else None
