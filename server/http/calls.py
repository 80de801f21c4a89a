"""``DELETE /mcp/calls/{idempotency key}``: ask for the end of a long write that goes on, whoever still waits for it."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from db.errors import AppError
from server.http.address import MCP_PATH
from server.http.problem import problem_response
from server.mcp.bearer import Authenticator, principal_of, sent_credentials
from server.mcp.resource import ProtectedResource
from tools.dispatch import Dispatch

PATH = f"{MCP_PATH}/calls/{{key:path}}"


class CallServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def dispatch(self) -> Dispatch: ...


def routes(services: CallServices, resource: ProtectedResource) -> list[BaseRoute]:
    """The route over ``services``; ``resource`` says how to get a token. A key is any text, percent-encoded."""

    async def stop(request: Request) -> Response:
        try:
            principal = await principal_of(request.scope, services.authenticator)
            await services.dispatch.services.limits.admit(principal)
            await services.dispatch.long_writes.stop(principal, request.path_params["key"])
        except AppError as error:
            challenge = resource.challenge(request.scope, token_was_sent=sent_credentials(request.scope))
            return problem_response(error, [(b"www-authenticate", challenge)] if error.status == 401 else [])
        return Response(status_code=202, headers={"cache-control": "no-store"})

    return [Route(PATH, stop, methods=["DELETE"], name="mcp-calls")]
