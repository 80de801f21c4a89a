"""``POST /threads/{thread}/components/{component_id}/state``: what a user made of a component that an agent showed."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from db.errors import missing_scope, not_found
from db.principal import Principal
from db.scopes import Scope
from server.http.callers import Callers
from server.http.runs import NO_STORE, RunEdge, RunServices
from tools.narrowing import Narrowing


def route(services: RunServices, callers: Callers) -> Route:
    """``thread`` is the thread's id, or its client's own name of it."""
    edge = RunEdge(services, callers)
    engine = services.engine

    async def change(request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        if narrowing.read_only or not principal.may(Scope.runs_write):
            raise missing_scope(Scope.runs_write)
        try:
            component_id = UUID(request.path_params["component_id"])
        except ValueError:
            raise not_found("component", "Use the messageId that its ACTIVITY_SNAPSHOT had.") from None
        thread, body = request.path_params["thread"], await request.body()
        state = await engine.change_state(principal, narrowing.project_id, thread, component_id, body)
        return JSONResponse({"state": state}, headers=NO_STORE)

    path = "/threads/{thread}/components/{component_id}/state"
    return Route(path, edge.answered(change), methods=["POST"], name="component-state")
