"""What this server says of itself as a protected resource (RFC 9728) and how it asks for a token (RFC 6750)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from db.scopes import ALL_SCOPES
from server.http.address import MCP_PATH, PublicAddress

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class ProtectedResource:
    """The identity of the endpoint. Its tokens come from this very house."""

    def __init__(self, public_url: str | None) -> None:
        self._address = PublicAddress(public_url)

    def challenge(self, scope: Scope, *, token_was_sent: bool) -> bytes:
        """The value of ``WWW-Authenticate`` on 401."""
        fault = 'error="invalid_token", ' if token_was_sent else ""
        return f'Bearer {fault}resource_metadata="{self._metadata(scope)}"'.encode()

    def step_up(self, scope: Scope, scopes: Sequence[str]) -> bytes:
        """The value of ``WWW-Authenticate`` on 403: which scopes a token needs for the call."""
        named = " ".join(scopes)
        metadata = self._metadata(scope)
        return f'Bearer error="insufficient_scope", scope="{named}", resource_metadata="{metadata}"'.encode()

    def routes(self) -> list[Route]:
        """The metadata at the path-suffixed well-known address, where clients look first, and at the root one."""
        return [Route(WELL_KNOWN + MCP_PATH, self._describe), Route(WELL_KNOWN, self._describe)]

    async def _describe(self, request: Request) -> Response:
        document = {
            "resource": self._address.resource(request.scope),
            "resource_name": "Innkeeper",
            "authorization_servers": [self._address.base(request.scope)],
            "bearer_methods_supported": ["header"],
            "scopes_supported": sorted(ALL_SCOPES),
        }
        return JSONResponse(document, headers={"cache-control": "public, max-age=300"})

    def _metadata(self, scope: Scope) -> str:
        return f"{self._address.base(scope)}{WELL_KNOWN}{MCP_PATH}"
