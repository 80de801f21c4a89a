"""Where a request of ``/v1`` works, and whether its caller may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from agents import admission
from db import conversations
from db.database import Database
from db.errors import AppError, missing_scope, needs_member, not_found
from db.principal import Principal
from db.scopes import Scope
from server.v1.asked import uuid
from tools.narrowing import Narrowing

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@asynccontextmanager
async def reading(
    database: Database, principal: Principal, narrowing: Narrowing
) -> AsyncIterator[tuple[Connection, UUID]]:
    """A transaction in the project that the request names, or in the caller's first. Raises AppError."""
    if not principal.may(Scope.runs_read):
        raise missing_scope(Scope.runs_read)
    async with _entered(database, principal, narrowing, read_only=True) as entered:
        yield entered


@asynccontextmanager
async def writing(
    database: Database, principal: Principal, narrowing: Narrowing
) -> AsyncIterator[tuple[Connection, UUID]]:
    """As :func:`reading`, for who may change something."""
    check_writes(principal, narrowing)
    async with _entered(database, principal, narrowing, read_only=False) as entered:
        yield entered


def check_writes(principal: Principal, narrowing: Narrowing) -> None:
    if narrowing.read_only or not principal.may(Scope.runs_write):
        raise missing_scope(Scope.runs_write)


@asynccontextmanager
async def _entered(
    database: Database, principal: Principal, narrowing: Narrowing, *, read_only: bool
) -> AsyncIterator[tuple[Connection, UUID]]:
    named = admission.named_project(principal, narrowing.project_id)
    async with database.transaction(principal, named, read_only=read_only) as connection:
        yield connection, named or await admission.first_project(connection)


async def thread_of(connection: Connection, project_id: UUID, given: str) -> asyncpg.Record:
    """The thread of that id. Raises AppError ``thread_not_found``."""
    thread_id = uuid(given)
    row = None if thread_id is None else await conversations.fetch(connection, project_id, thread_id)
    if row is None:
        raise no_such_thread()
    return row


async def held(connection: Connection, project_id: UUID, given: str) -> UUID:
    """The id of a thread that the caller may change, locked until the transaction ends. Raises AppError."""
    row = await thread_of(connection, project_id, given)
    thread_id: UUID = row["id"]
    if not await conversations.hold(connection, project_id, thread_id):
        raise needs_member()
    return thread_id


def no_such_thread() -> AppError:
    return not_found("thread", "GET /v1/threads lists those that this caller can see.", {"next_tool": "list_threads"})
