"""An issuer of OpenID Connect that answers as a test wants it to, also in ways in which none may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.fakes.sockets import on_socket

PACKED = Middleware(GZipMiddleware, minimum_size=1)
"""As everybody's servers do for whoever takes it."""

CLIENT_ID = "innkeeper"


def new_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid, "alg": "ES256", "use": "sig"})


@dataclass
class OpenIdServer:
    """``forge``: makes the ID token of the right claims, instead of signing them. ``metadata``, ``answer``, ``token``
    and ``userinfo``: what is said otherwise (``None``: not at all). ``page``: comes instead of the token's answer."""

    url: str = ""
    key: ECKey = field(default_factory=lambda: new_key("first"))
    others: list[Any] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    forge: Callable[[dict[str, Any]], str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    page: Response | None = None
    exchanged: list[dict[str, str]] = field(default_factory=list)
    nonce: str = ""

    def reset(self, subject: str, email: str) -> None:
        """All is right again, and this is who signs in."""
        self.claims = {"sub": subject, "email": email, "email_verified": True}
        self.metadata, self.answer, self.token, self.userinfo = {}, {}, {}, {"sub": subject}
        self.forge = self.page = None
        self.exchanged = []

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, self.key)

    async def published(self, _request: Request) -> Response:
        said = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
            "scopes_supported": ["openid", "email", "profile"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(_changed(said, self.metadata))

    async def keys(self, _request: Request) -> Response:
        found: dict[str, Any] = {"keys": [*self.others, *KeySet([self.key]).as_dict(private=False)["keys"]]}
        return JSONResponse(found)

    async def authorize(self, request: Request) -> Response:
        self.nonce = request.query_params["nonce"]
        said = {"code": "the-code", "state": request.query_params["state"], "iss": self.url}
        return RedirectResponse(
            f"{request.query_params['redirect_uri']}?{urlencode(_changed(said, self.answer))}", status_code=302
        )

    async def exchange(self, request: Request) -> Response:
        self.exchanged.append({name: str(value) for name, value in (await request.form()).items()})
        if self.page is not None:
            return self.page
        now = int(time())
        right = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60, "nonce": self.nonce}
        claims = _changed(right, self.claims)
        signed = self.sign(claims) if self.forge is None else self.forge(claims)
        said = {"access_token": "an-access-token", "token_type": "Bearer", "id_token": signed}
        return JSONResponse(_changed(said, self.token))

    async def about(self, _request: Request) -> Response:
        return JSONResponse(self.userinfo)


def _changed(said: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


@asynccontextmanager
async def openid() -> AsyncIterator[OpenIdServer]:
    server = OpenIdServer()
    routes = [
        Route("/.well-known/openid-configuration", server.published),
        Route("/keys", server.keys),
        Route("/authorize", server.authorize),
        Route("/token", server.exchange, methods=["POST"]),
        Route("/userinfo", server.about),
    ]
    async with on_socket(Starlette(routes=routes, middleware=[PACKED])) as server.url:
        yield server
