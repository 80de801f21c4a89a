"""A small OAuth 2.1 authorization server in front of an application, for clients that sign in: it grants what they ask.

It says of the application behind it, in the protected resource metadata, that tokens come from here. ``mint`` makes the
token for a set of scopes. There is no page: :meth:`AuthorizationServer.consent` is the person who always agrees.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

Mint = Callable[[list[str]], Awaitable[str]]


class AuthorizationServer:
    """``asked``: the scopes of each authorization request, in order; ``None`` where the client named none."""

    def __init__(self, app: ASGIApp, mint: Mint, *, usual: str) -> None:
        self.asked: list[str | None] = []
        self._mint = mint
        self._usual = usual
        self._codes: dict[str, tuple[str, str]] = {}
        self._answer: AuthorizationCodeResult | None = None
        self.app = Starlette(
            routes=[
                Route("/.well-known/oauth-protected-resource/mcp", self._resource),
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/register", self._register, methods=["POST"]),
                Route("/token", self._token, methods=["POST"]),
                Mount("/", app),
            ]
        )

    async def consent(self, url: str) -> None:
        """What a browser with a willing person does with the address of the authorization page."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self.asked.append(asked.get("scope"))
        code = f"code-{len(self.asked)}"
        self._codes[code] = (asked.get("scope", self._usual), asked["code_challenge"])
        self._answer = AuthorizationCodeResult(code=code, state=asked["state"])

    async def came_back(self) -> AuthorizationCodeResult:
        """What the client's redirect address was called with."""
        assert self._answer is not None
        return self._answer

    async def _resource(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"resource": f"{base}/mcp", "authorization_servers": [base]})

    async def _metadata(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        return JSONResponse(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "registration_endpoint": f"{base}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        )

    async def _register(self, request: Request) -> Response:
        wanted = await request.json()
        return JSONResponse({**wanted, "client_id": "a-client", "token_endpoint_auth_method": "none"}, status_code=201)

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        scopes, challenge = self._codes.pop(form["code"][0])
        proof = urlsafe_b64encode(sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=").decode()
        if proof != challenge:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        token = await self._mint(scopes.split())
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": scopes})
