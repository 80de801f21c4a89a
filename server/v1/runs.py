"""Runs of ``/v1``: started in a thread, new or not, streamed in :mod:`server.v1.dialect`, and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agents import component_offers
from agents.readers import no_such_run
from db import conversations, runs, threads
from db.agents import DEFAULT as DEFAULT_AGENT
from db.errors import AppError, needs_member
from db.ids import uuid7
from db.principal import Principal
from server.http.runs import NO_STORE, RunServices, last_event_id
from server.limits.run_places import RunPlaces
from server.v1 import asked
from server.v1.asked import NewThread, Run
from server.v1.beginning import Beginning
from server.v1.run_stream import V1Stream
from server.v1.scope import check_writes, no_such_thread, reading, thread_of, writing
from server.v1.translate import run_input
from server.v1.turns import check_owner, check_previous, within_limits
from tools.narrowing import Narrowing

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database

Beforehand = Callable[["Connection", UUID], Awaitable[None]]


class V1Runs:
    """One method a route."""

    def __init__(self, services: RunServices, database: Database) -> None:
        self._database = database
        self._engine = services.engine
        self._limits = services.dispatch.services.limits

    async def begin(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """A run in a thread of its own."""
        wanted = await asked.read(Run, await request.body())
        check_writes(principal, narrowing)
        new = await Beginning.of(self._engine, wanted.thread or NewThread(), wanted.thread_metadata)

        async def begin(connection: Connection, project_id: UUID) -> None:
            await new.begin(connection, principal, project_id)

        return await self._start(request, principal, narrowing, wanted, new.id, str(new.id), begin)

    async def go_on(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """A run in a thread that is there."""
        wanted = await asked.read(Run, await request.body())
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            wanted = await within_limits(connection, project_id, row["id"], wanted)
        check_owner(row, principal)
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
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            run = await _run_of(connection, project_id, row["id"], request.path_params["run_id"])
        if run["status"] in runs.LIVE:
            await self._engine.cancel(principal, project_id, run["id"])
        return JSONResponse({"runId": str(run["id"]), "status": "cancelled"}, headers=NO_STORE)

    async def follow(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """A run from behind the event that ``Last-Event-ID`` names, or from its beginning."""
        after, readers = last_event_id(request), self._engine.readers
        async with reading(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
            run = await _run_of(connection, project_id, row["id"], request.path_params["run_id"])
        async with RunPlaces(self._limits, principal) as places:
            handle = await readers.follow(
                principal, run["id"], project_id=project_id, after=after, entering=places.enter
            )
        if handle.over:
            places.give_back()
            return Response(status_code=204, headers=NO_STORE)
        whole = replace(handle, tail=readers.tail(principal, project_id, run["id"]))
        return V1Stream(self._engine, whole, places, row["id"], after)

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
        try:
            async with RunPlaces(self._limits, principal) as places:
                handle = await self._engine.start(
                    principal,
                    body,
                    project_id=narrowing.project_id,
                    agent=request.query_params.get("agent", DEFAULT_AGENT),
                    entering=places.enter,
                    beforehand=beforehand,
                )
        except AppError as error:
            error.message = error.message.replace(component_offers.PLACE, "availableComponents")
            raise
        return V1Stream(self._engine, handle, places, thread_id)


async def _run_of(connection: Connection, project_id: UUID, thread_id: UUID, given: str) -> asyncpg.Record:
    """The run of that id, in its own thread. Raises AppError ``run_not_found``."""
    run_id = asked.uuid(given)
    run = None if run_id is None else await threads.run(connection, project_id, run_id)
    if run is None or run["thread_id"] != thread_id:
        raise no_such_run()
    return run
