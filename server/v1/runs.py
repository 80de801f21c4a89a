"""Runs of ``/v1``: started in a thread, new or not, streamed in :mod:`server.v1.dialect`, and cancelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agents.readers import no_such_run
from db import conversations, runs, threads
from db.agents import DEFAULT as DEFAULT_AGENT
from db.errors import AppError, invalid, needs_member
from db.ids import uuid7
from db.principal import Principal
from server.http.runs import NO_STORE, RunServices
from server.limits.run_places import RunPlaces
from server.v1 import asked
from server.v1.asked import NewThread, Run
from server.v1.beginning import Beginning
from server.v1.run_stream import V1Stream
from server.v1.scope import check_writes, no_such_thread, reading, thread_of, writing
from server.v1.translate import run_input
from tools.narrowing import Narrowing

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database

MOST_SINCE: Final = 200
"""Messages in which calls are counted."""
Beforehand = Callable[["Connection", UUID], Awaitable[None]]


class V1Runs:
    """One method a route."""

    def __init__(self, services: RunServices, database: Database) -> None:
        self._database = database
        self._engine = services.engine
        self._limits = services.dispatch.services.limits

    async def begin(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """A run in a thread of its own."""
        wanted = asked.parse(Run, await request.body())
        check_writes(principal, narrowing)
        new = await Beginning.of(self._engine, wanted.thread or NewThread(), wanted.thread_metadata)

        async def begin(connection: Connection, project_id: UUID) -> None:
            await new.begin(connection, principal, project_id)

        return await self._start(request, principal, narrowing, wanted, new.id, str(new.id), begin)

    async def go_on(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """A run in a thread that is there."""
        wanted = asked.parse(Run, await request.body())
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            if wanted.goes_on and any(tool.max_calls for tool in wanted.tools or ()):
                wanted = within_limits(wanted, await _since_the_user(connection, project_id, row["id"]))
        if row["end_user_id"] != principal.end_user_id:
            raise _of_another(row)
        thread_id: UUID = row["id"]

        async def check(connection: Connection, project_id: UUID) -> None:
            if not await conversations.hold(connection, project_id, thread_id):
                raise needs_member()
            stands = await conversations.fetch(connection, project_id, thread_id)
            if stands is None:
                raise no_such_thread()
            check_previous(stands, wanted.previous_run_id)

        named = replace(narrowing, project_id=project_id)
        return await self._start(request, principal, named, wanted, thread_id, row["external_id"], check)

    async def cancel(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """Answers the same whether it went on still or was over."""
        run_id = asked.uuid(request.path_params["run_id"])
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            run = None if run_id is None else await threads.run(connection, project_id, run_id)
            if run is None or run_id is None or run["thread_id"] != row["id"]:
                raise no_such_run()
        if run["status"] in runs.LIVE:
            await self._engine.cancel(principal, project_id, run_id)
        return JSONResponse({"runId": str(run_id), "status": "cancelled"}, headers=NO_STORE)

    async def _start(
        self,
        request: Request,
        principal: Principal,
        narrowing: Narrowing,
        wanted: Run,
        thread_id: UUID,
        name: str,
        beforehand: Beforehand,
    ) -> Response:
        check_writes(principal, narrowing)
        body = run_input(wanted, name, str(uuid7()))
        places = RunPlaces(self._limits, principal)
        try:
            await places.take()
            handle = await self._engine.start(
                principal,
                body,
                project_id=narrowing.project_id,
                agent=request.query_params.get("agent", DEFAULT_AGENT),
                entering=places.enter,
                beforehand=beforehand,
            )
        except BaseException:
            places.give_back()
            raise
        return V1Stream(self._engine, handle, places, thread_id)


async def _since_the_user(connection: Connection, project_id: UUID, thread_id: UUID) -> Sequence[asyncpg.Record]:
    """The thread's last messages, the newest first."""
    return await conversations.messages(connection, project_id, thread_id, at=None, limit=MOST_SINCE, newest_first=True)


def within_limits(wanted: Run, newest: Sequence[asyncpg.Record]) -> Run:
    """The same run without the tools that were called as often as they may be since the user last said something."""
    called: Counter[str] = Counter()
    for row in newest:
        parts = row["content"]["parts"]
        if any(part["part_kind"] == "user-prompt" for part in parts):
            break
        called.update(part["tool_name"] for part in parts if part["part_kind"] == "tool-call")
    left = [tool for tool in wanted.tools or () if tool.max_calls is None or called[tool.name] < tool.max_calls]
    return wanted.model_copy(update={"tools": left})


def check_previous(thread: asyncpg.Record, given: str | None) -> None:
    """Whether a client has seen how the thread's last run ended. After one that failed or was cancelled, clients name
    that one, or the one before; while one goes on, that is what they are told. Raises AppError."""
    if thread["live_id"] is not None:
        return
    known = {str(found) for found in (thread["completed_id"], thread["ended_id"]) if found is not None}
    if given in known or (given is None and thread["completed_id"] is None):
        return
    raise invalid(
        "previousRunId is not the last run of this thread.",
        "Read the thread again: something was said in it meanwhile. Then send its lastCompletedRunId.",
        "previous_run_mismatch",
    )


def _of_another(thread: asyncpg.Record) -> AppError:
    """A project's own key sees the threads of all its end users, but talks in none of theirs."""
    return invalid(
        "This thread is of an end user, and the request is of none.",
        "Send the userKey of the thread, or the end user's own token.",
        "user_key_required",
    )
