"""Threads: the conversations of a project, with what was said in them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from db import conversations, threads, transcript
from db.errors import needs_member, not_found
from db.scopes import Scope
from tools.contract import Caller, ProjectId, tool
from tools.pages import DEFAULT_ROWS, Cursor, cut, foreign, from_cursor, to_cursor
from tools.preview import Preview
from tools.roles import readable
from tools.runs import Status
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

ThreadId: TypeAlias = Annotated[UUID, Field(description="From list_threads.")]


class ThreadSummary(BaseModel):
    id: UUID
    client_id: Untrusted[str] = Field(description="What its client calls it.")
    name: Untrusted[str] | None
    run_id: UUID | None = Field(description="Its last run.")
    run_status: Status | None
    created_at: datetime
    updated_at: datetime


class ThreadPage(BaseModel):
    threads: list[ThreadSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class Message(BaseModel):
    """``parts``: messages in the words of AG-UI, without their ids."""

    id: UUID
    role: Literal["user", "assistant"]
    run_id: UUID | None
    created_at: datetime
    parts: list[Untrusted[dict[str, Any]]]


class Thread(ThreadSummary):
    messages: list[Message] = Field(description="The newest first.")
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when there are older ones.")


class DeletedThread(BaseModel):
    id: UUID
    deleted: Literal[True] = True


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_threads(call: Caller, project_id: ProjectId, cursor: Cursor = None) -> ThreadPage:
    """List the threads of a project, newest first."""
    async with call.transaction() as connection:
        rows = await threads.page(connection, project_id, before=from_cursor(cursor), limit=DEFAULT_ROWS + 1)
        if not rows:
            await readable(connection, project_id)
    shown, more = cut(rows, DEFAULT_ROWS, lambda row: ThreadSummary(**_columns(row)))
    return ThreadPage(threads=shown, next_cursor=more)


@tool(Scope.runs_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def get_thread(call: Caller, project_id: ProjectId, thread_id: ThreadId, cursor: Cursor = None) -> Thread:
    """Read what was said and done in a thread."""
    async with call.transaction() as connection:
        row = await _found(connection, project_id, thread_id)
        before = from_cursor(cursor)
        if before is not None and not await threads.has_message(connection, project_id, thread_id, before):
            raise foreign("page")
        rows = await threads.messages(connection, project_id, thread_id, before=before, limit=DEFAULT_ROWS + 1)
    shown = [_message(one) for one in rows[::-1][:DEFAULT_ROWS]]
    more = to_cursor(shown[-1].id) if len(rows) > DEFAULT_ROWS else None
    return Thread(**_columns(row), messages=shown, next_cursor=more)


async def _removal(call: Caller, project_id: UUID, thread_id: UUID) -> Preview:
    async with call.transaction() as connection:
        row = await _writable(connection, project_id, thread_id)
    return Preview(f"This deletes thread {thread_id} with all its messages and runs for good.", {"Thread": _name(row)})


@tool(
    Scope.runs_write,
    read_only=False,
    destructive=True,
    idempotent=True,
    open_world=False,
    preview=_removal,
    target="thread_id",
)
async def delete_thread(call: Caller, project_id: ProjectId, thread_id: ThreadId) -> DeletedThread:
    """Delete a thread with its runs for good."""
    async with call.transaction() as connection:
        await _writable(connection, project_id, thread_id)
        await conversations.erase(connection, project_id, thread_id)
    return DeletedThread(id=thread_id)


async def _found(connection: Connection, project_id: UUID, thread_id: UUID) -> asyncpg.Record:
    row = await threads.fetch(connection, project_id, thread_id)
    if row is None:
        await readable(connection, project_id)
        raise not_found("thread")
    return row


async def _writable(connection: Connection, project_id: UUID, thread_id: UUID) -> asyncpg.Record:
    row = await _found(connection, project_id, thread_id)
    if not await threads.writable(connection, project_id):
        raise needs_member()
    return row


def _columns(row: asyncpg.Record) -> dict[str, Any]:
    return {**{name: row[name] for name in ThreadSummary.model_fields if name in row}, "client_id": row["external_id"]}


def _name(row: asyncpg.Record) -> str:
    return str(row["name"] or row["external_id"])


def _message(row: asyncpg.Record) -> Message:
    parts = [{name: value for name, value in said.items() if name != "id"} for said in transcript.by_row([row])[0]]
    return Message(id=row["id"], role=row["role"], run_id=row["run_id"], created_at=row["created_at"], parts=parts)
