"""``POST /agui`` and ``POST /agui/{agent}``: an AG-UI 1.0 run as server-sent events.

This edge parses, authenticates, starts and tails; the run lives in the engine and does not notice who reads it. Each
event's ``id`` is its number in the run's log. Sending the same input again attaches to the same run from its start.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from agents.agui import sse
from agents.engine import RunEngine, RunHandle
from db.agents import DEFAULT as DEFAULT_AGENT
from db.errors import AppError, invalid
from db.principal import Principal
from server.http.problem import problem_response
from server.limits.run_places import RunPlaces
from server.mcp.bearer import Authenticator, principal_of
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class RunServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def engine(self) -> RunEngine: ...

    @property
    def dispatch(self) -> Dispatch: ...


def routes(services: RunServices) -> list[BaseRoute]:
    """The routes over ``services``. A problem document answers whatever keeps the run from existing."""

    async def agui(request: Request) -> Response:
        try:
            principal = await principal_of(request.scope, services.authenticator)
            narrowing = Narrowing.parse(request.query_params)
            principal = _narrowed(principal, narrowing)
            body = await request.body()
            limits = services.dispatch.services.limits
            await limits.admit(principal)
            places = RunPlaces(limits, principal)
            try:
                await places.take()
                handle = await services.engine.start(
                    principal,
                    body,
                    project_id=narrowing.project_id,
                    agent=request.path_params.get("agent", DEFAULT_AGENT),
                    entering=places.enter,
                )
            except BaseException:
                places.give_back()
                raise
        except AppError as error:
            extra = [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
            return problem_response(error, extra)
        return RunStream(services.engine, handle, places)

    return [
        Route("/agui", agui, methods=["POST"], name="agui"),
        Route("/agui/{agent}", agui, methods=["POST"], name="agui-agent"),
    ]


def _narrowed(principal: Principal, narrowing: Narrowing) -> Principal:
    if narrowing.read_only:
        raise invalid("A run cannot be started with read_only=1.", "Leave it out, or use a key with fewer scopes.")
    return principal


class RunStream(Response):
    """The events of one run until its terminal one. A reader that goes away is all the engine hears of it.

    The run that was started here holds its ``places`` until it ends, whoever still reads it; one that lives elsewhere
    lends them to its reader.
    """

    def __init__(self, engine: RunEngine, handle: RunHandle, places: RunPlaces) -> None:
        super().__init__(status_code=200)
        self.raw_headers = [*HEADERS, (b"innkeeper-run-id", str(handle.run_id).encode())]
        self._engine = engine
        self._handle = handle
        self._places = places
        self._lent = handle.attached or not engine.when_ended(handle.run_id, places.give_back)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pumping = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        with self._engine.reading():
            try:
                await asyncio.wait([pumping, gone], return_when=asyncio.FIRST_COMPLETED)
                if pumping.done():
                    await pumping
                else:
                    await self._engine.hung_up(self._handle)
            finally:
                for task in (pumping, gone):
                    task.cancel()
                if self._lent:
                    self._places.give_back()
                await asyncio.wait([pumping, gone])

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tail = self._handle.tail
        while not tail.over:
            # An error here cuts the stream: the client sees that the terminal event is missing and comes back.
            found = await tail.next(KEEP_ALIVE_SECONDS)
            if found or not tail.over:
                body = b"".join(sse(seq, event) for seq, event in found) or KEEP_ALIVE
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
