"""``POST /v1/threads/{id}/components/{id}/state``: as the house's own route, on a thread's id alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from db.errors import not_found
from db.principal import Principal
from server.http.runs import NO_STORE, RunServices
from server.v1.asked import uuid
from server.v1.scope import thread_of, writing
from tools.narrowing import Narrowing

if TYPE_CHECKING:
    from db.database import Database


class ComponentState:
    def __init__(self, services: RunServices, database: Database) -> None:
        self._database = database
        self._engine = services.engine

    async def change(self, request: Request, principal: Principal, narrowing: Narrowing) -> Response:
        async with writing(self._database, principal, narrowing) as (connection, project_id):
            row = await thread_of(connection, project_id, request.path_params["thread_id"])
        component_id = uuid(request.path_params["component_id"])
        if component_id is None:
            raise not_found("component", "Use the id that its content block has, in its own thread.")
        body = await request.body()
        state = await self._engine.change_state(principal, project_id, str(row["id"]), component_id, body)
        return JSONResponse({"state": state}, headers=NO_STORE)
