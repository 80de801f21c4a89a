"""``GET /mcp/preview``: what a connection with this key and this URL would see, and what it would cost a model."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from db.errors import AppError
from db.principal import Principal
from server.http.address import MCP_PATH
from server.http.problem import problem_response
from server.mcp import costs
from server.mcp.bearer import Authenticator, principal_of, sent_credentials
from server.mcp.endpoint import narrowing_of
from server.mcp.resource import ProtectedResource
from tools.catalog import Catalog
from tools.narrowing import Narrowing

PATH = f"{MCP_PATH}/preview"


class PreviewServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def catalog(self) -> Catalog: ...


def routes(services: PreviewServices, resource: ProtectedResource) -> list[BaseRoute]:
    """The route over ``services``; ``resource`` says how to get a token."""

    async def preview(request: Request) -> Response:
        try:
            principal = await principal_of(request.scope, services.authenticator)
            narrowing = narrowing_of(services.catalog, request.scope["query_string"])
            shown = described(services.catalog, narrowing.of(principal), narrowing)
        except AppError as error:
            challenge = resource.challenge(request.scope, token_was_sent=sent_credentials(request.scope))
            return problem_response(error, [(b"www-authenticate", challenge)] if error.status == 401 else [])
        return JSONResponse(shown, headers={"cache-control": "no-store"})

    return [Route(PATH, preview, methods=["GET"], name="mcp-preview")]


def described(catalog: Catalog, principal: Principal, narrowing: Narrowing) -> dict[str, Any]:
    """The preview for a caller who is narrowed already. ``tokens`` is ``null`` where nobody counted."""
    bound = principal.project_id is not None
    tools = [
        {
            "name": tool.name,
            "title": tool.title,
            "family": spec.family,
            "scope": spec.scope.value,
            "read_only": spec.hints.read_only,
            "destructive": spec.hints.destructive,
            "tokens": costs.tool_tokens(tool.name, narrowed=bound),
        }
        for tool in catalog.visible(principal, narrowing.families)
        if (spec := catalog.tool(tool.name)) is not None
    ]
    counted = [tokens for tool in tools if isinstance(tokens := tool["tokens"], int)]
    listing = sum(counted) if len(counted) == len(tools) else None
    instructions = costs.instructions_tokens()
    return {
        "project_id": str(principal.project_id) if bound else None,
        "read_only": principal.read_only,
        "scopes": sorted(scope for scope in principal.scopes if principal.may(scope)),
        "families": {
            "offered": sorted(catalog.offered(narrowing.families)),
            "available": sorted(catalog.families),
        },
        "tools": tools,
        "resources": [
            {"uri_template": spec.uri_template, "title": spec.title, "scope": spec.scope.value}
            for spec in catalog.visible_resources(principal)
        ],
        "prompts": [
            {"name": spec.name, "title": spec.title, "uses": [used.name for used in spec.uses]}
            for spec in catalog.visible_prompts(principal, narrowing.families)
        ],
        "tokens": {
            "encoding": costs.ENCODING,
            "instructions": instructions,
            "tools": listing,
            "total": None if listing is None else listing + instructions,
        },
    }
