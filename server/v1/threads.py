"""``/v1/threads``: threads are made, listed, read, named and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agents.engine import RunEngine
from db import conversations, ledger
from db.database import Database
from db.errors import not_found
from db.principal import Principal
from server.http.runs import NO_STORE
from server.v1 import asked
from server.v1.asked import MessageQuery, NewThread, ThreadChange, ThreadQuery
from server.v1.beginning import Beginning
from server.v1.message import messages
from server.v1.scope import check_writes, held, reading, thread_of, writing
from server.v1.thread import thread
from tools.narrowing import Narrowing
from tools.pages import from_cursor, to_cursor

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from db.database import Connection

DELETED: Final = "delete_thread"
"""In the audit log, as by the tool of this name."""


class ThreadEdge:
    """One method a route."""

    def __init__(self, engine: RunEngine, database: Database) -> None:
        self._engine = engine
        self._database = database

    async def create(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        wanted = await asked.read(NewThread, await request.body() or b"{}")
        check_writes(principal, narrowing)
        new = await Beginning.of(self._engine, wanted)
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            thread_id = await new.begin(connection, principal, project_id)
            row = await conversations.fetch(connection, project_id, thread_id)
        return _json(thread(row) if row else {}, 201)

    async def page(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        query = asked.parse(ThreadQuery, dict(request.query_params))
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            before = from_cursor(query.cursor)
            rows = await conversations.page(connection, project_id, before=before, limit=query.limit + 1)
        found = rows[: query.limit]
        return _json({"threads": [thread(row) for row in found], **_more(found, len(rows) > query.limit)})

    async def show(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            said = await _whole(connection, project_id, row["id"])
        return _json({**thread(row), "messages": said})

    async def change(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        wanted = await asked.read(ThreadChange, await request.body() or b"{}")
        data = None if wanted.metadata is None else asked.metadata(wanted.metadata)
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            thread_id = await held(connection, project_id, request.path_params["thread_id"])
            await conversations.describe(connection, project_id, thread_id, wanted.name, data)
            row = await conversations.fetch(connection, project_id, thread_id)
        return _json(thread(row) if row else {})

    async def delete(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            thread_id = await held(connection, project_id, request.path_params["thread_id"])
            await conversations.erase(connection, project_id, thread_id)
            await ledger.audit(connection, principal, project_id, DELETED, str(thread_id))
        return Response(status_code=204, headers=NO_STORE)

    async def messages(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        query = asked.parse(MessageQuery, dict(request.query_params))
        at, newest_first = from_cursor(query.cursor), query.order == "desc"
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            # One more on either side: what a message says may depend on its neighbour, and whether there are more.
            most = query.limit + (1 if at is None else 2)
            rows = await conversations.messages(
                connection, project_id, row["id"], at=at, limit=most, newest_first=newest_first
            )
        found = _in_order(rows, newest_first)
        behind = 0 if at is None else 1
        shown = [one for one in found[behind : behind + query.limit] if one is not None]
        page = rows[behind : behind + query.limit]
        return _json({"messages": shown, **_more(page, len(rows) > behind + query.limit)})

    async def message(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            said = await _whole(connection, project_id, row["id"])
        found = next((one for one in said if one["id"] == request.path_params["message_id"]), None)
        if found is None:
            raise not_found("message", "GET /v1/threads/{id}/messages lists those of the thread.")
        return _json(found)


async def _whole(connection: Connection, project_id: UUID, thread_id: UUID) -> list[dict[str, Any]]:
    rows = await conversations.messages(connection, project_id, thread_id, at=None, limit=None, newest_first=False)
    return [one for one in messages(rows) if one is not None]


def _in_order(rows: Sequence[asyncpg.Record], newest_first: bool) -> list[dict[str, Any] | None]:
    return messages(rows[::-1])[::-1] if newest_first else messages(rows)


def _more(page: Sequence[asyncpg.Record], more: bool) -> dict[str, Any]:
    return {"hasMore": more, **({"nextCursor": to_cursor(page[-1]["id"])} if more else {})}


def _json(said: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(said, status, headers=NO_STORE)
