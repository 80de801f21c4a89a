"""``GET /openapi.json``: the OpenAPI 3.1 document of everything this house answers by plain HTTP.

MCP itself is not in it: ``/mcp`` describes itself to who connects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from server.http.problem import TYPE_PREFIX
from server.openapi import house, oauth, pages, registry, runs, v1
from server.openapi.house import Offered
from server.openapi.operation import PROBLEM, TEXT, Operation, thing

PATH: Final = "/openapi.json"
SECURITY: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key, or an access token from /oauth/token (RFC 6750). The metrics, feeds and buckets have "
        "tokens of their own.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key, for some clients."},
    "client": {"type": "http", "scheme": "basic", "description": "The client's id and secret (RFC 6749, 2.3.1)."},
    "session": {"type": "apiKey", "in": "cookie", "name": "innkeeper_session", "description": "Of a person's browser."},
}
PROBLEM_SCHEMA: Final = thing(
    {
        "type": {"type": "string", "pattern": f"^{TYPE_PREFIX}", "description": "The stable code, as a URN."},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "retryable": {"type": "boolean", "description": "Whether the very same request may succeed later."},
    },
    hint={"type": "string", "description": "What to do next."},
    request_id={"type": "string", "description": "To quote when asking for help."},
)


def document(operations: Sequence[Operation], url: str) -> dict[str, Any]:
    """The whole document. ``url``: where this house is reached."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = one.described()
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Innkeeper",
            "version": version("innkeeper"),
            "description": f"What MCP cannot carry. Refusals are {PROBLEM} (RFC 9457); docs/errors.md lists the codes.",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY,
            "schemas": {"Problem": PROBLEM_SCHEMA, **oauth.schemas(), **runs.schemas(), **v1.schemas()},
        },
    }


def routes(others: Sequence[BaseRoute], base: Callable[[Request], str], offered: Offered) -> list[BaseRoute]:
    """``others``: the routes beside this one, among which are the pages; ``base``: where this house is reached."""

    async def show(request: Request) -> Response:
        said = document(described(others, offered), base(request))
        return JSONResponse(said, headers={"cache-control": "public, max-age=300"})

    return [Route(PATH, show, name="openapi")]


def described(others: Sequence[BaseRoute], offered: Offered) -> list[Operation]:
    """Every operation there is."""
    return [
        *runs.operations(),
        *v1.operations(),
        *registry.operations(),
        *oauth.operations(),
        *house.operations(offered),
        *pages.operations(others),
    ]
