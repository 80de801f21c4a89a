"""Runs over plain HTTP, beside MCP: ``POST /agui`` and ``POST /agui/{agent}`` start one as AG-UI 1.0 and stream its
events; ``GET /runs/{id}/events`` goes on with a stream from any of them, ``GET /runs/{id}`` says where a run stands,
``POST /runs/{id}/cancel`` asks for its end.

This edge parses, authenticates, starts and tails; the run lives in the engine and does not notice who reads it. Each
event's ``id`` is its number in the run's log, which a client gives back as ``Last-Event-ID``. Sending the same input
again attaches to the same run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agents.engine import RunEngine
from agents.readers import no_such_run
from db.agents import DEFAULT as DEFAULT_AGENT
from db.errors import AppError, invalid, missing_scope
from db.principal import Principal
from db.scopes import Scope
from server.http.callers import Callers
from server.http.problem import problem_response
from server.http.run_stream import RunStream
from server.limits.run_places import RunPlaces
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

NO_STORE: Final = {"cache-control": "no-store"}
LONGEST_EVENT_ID: Final = 15
PAST_EVERY_LOG: Final = 10**LONGEST_EVENT_ID


class RunServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def engine(self) -> RunEngine: ...

    @property
    def dispatch(self) -> Dispatch: ...


Answering = Callable[[Request, Principal, Narrowing], Awaitable[Response]]


def routes(services: RunServices, callers: Callers) -> list[BaseRoute]:
    """The routes over ``services``. A problem document answers whatever keeps a request from being answered."""
    edge = RunEdge(services, callers)
    return [
        Route("/agui", edge.answered(edge.start), methods=["POST"], name="agui"),
        Route("/agui/{agent}", edge.answered(edge.start), methods=["POST"], name="agui-agent"),
        Route("/runs/{run_id}", edge.answered(edge.show), methods=["GET"], name="run"),
        Route("/runs/{run_id}/events", edge.answered(edge.follow), methods=["GET"], name="run-events"),
        Route("/runs/{run_id}/cancel", edge.answered(edge.cancel), methods=["POST"], name="run-cancel"),
    ]


class RunEdge:
    """One method a route. Each gets its caller, who was counted, and what the URL chose."""

    def __init__(self, services: RunServices, callers: Callers) -> None:
        self._callers = callers
        self._engine = services.engine
        self._limits = services.dispatch.services.limits

    def answered(self, answer: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            heard = self._engine.readers.heard
            try:
                principal = await self._callers.of(request, in_body=request.method in ("POST", "PATCH"))
                narrowing = Narrowing.parse(request.query_params)
                await self._limits.admit(principal)
                response = await answer(request, principal, narrowing)
            except AppError as error:
                extra = [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
                return problem_response(error, extra)
            if isinstance(response, RunStream) and heard != self._engine.readers.heard:
                response.doubt()
            return response

        return endpoint

    async def start(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        _check_writes(narrowing)
        after = last_event_id(request)
        body = await request.body()
        async with RunPlaces(self._limits, principal) as places:
            handle = await self._engine.start(
                principal,
                body,
                project_id=narrowing.project_id,
                agent=request.path_params.get("agent", DEFAULT_AGENT),
                after=after,
                entering=places.enter,
            )
        return RunStream(self._engine, handle, places)

    async def follow(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        run_id, after = _run_id(request), last_event_id(request)
        async with RunPlaces(self._limits, principal) as places:
            handle = await self._engine.readers.follow(
                principal, run_id, project_id=narrowing.project_id, after=after, entering=places.enter
            )
        if handle.over:
            places.give_back()
            # Tells an EventSource not to come again (HTML, 9.2.3).
            return Response(status_code=204, headers=NO_STORE)
        return RunStream(self._engine, handle, places)

    async def show(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        run_id = _run_id(request)
        project_id = await self._engine.readers.project_of(principal, run_id, narrowing.project_id)
        return JSONResponse(await self._engine.readers.snapshot(principal, project_id, run_id), headers=NO_STORE)

    async def cancel(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        """202: it was asked to end. 200: it had ended already."""
        _check_writes(narrowing)
        if not principal.may(Scope.runs_write):
            raise missing_scope(Scope.runs_write)
        run_id = _run_id(request)
        project_id = await self._engine.readers.project_of(principal, run_id, narrowing.project_id)
        asked = await self._engine.cancel(principal, project_id, run_id)
        run = await self._engine.readers.snapshot(principal, project_id, run_id)
        return JSONResponse(run, status_code=202 if asked else 200, headers=NO_STORE)


def _check_writes(narrowing: Narrowing) -> None:
    if narrowing.read_only:
        raise invalid("With read_only=1 in the address a run is only read.", "Leave it out to start or cancel one.")


def _run_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["run_id"])
    except ValueError:
        raise no_such_run() from None


def last_event_id(request: Request) -> int:
    """Where the client is in the log; 0 at its beginning."""
    given = request.headers.get("last-event-id", "").strip()
    if not given:
        return 0
    if not given.isascii() or not given.isdigit():
        raise invalid(
            "Last-Event-ID is not the id of an event.",
            "Send the id of the last event you have, or leave the header out to read from the first one.",
        )
    number = given.lstrip("0")
    return int(number or 0) if len(number) <= LONGEST_EVENT_ID else PAST_EVERY_LOG
