"""GitHub as far as signing in goes: the OAuth endpoints of the site, and two resources of its REST API."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.fakes.sockets import on_socket

CLIENT_ID = "Iv1.tests"
SECRET = "a-github-secret-that-only-tests-have"


@dataclass
class GitHubServer:
    """``person`` and ``mails``: who signs in, as the API says it. ``app``: tokens end and are refreshed, as those of a
    GitHub App. ``answers``: what the API gives instead, as (status, JSON)."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    mails: list[dict[str, Any]] = field(default_factory=list)
    app: bool = False
    denies: bool = False
    answers: list[tuple[int, Any]] = field(default_factory=list)
    codes: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    refreshes: dict[str, int] = field(default_factory=dict)

    def of(self, number: int, *mails: tuple[str, bool, bool], name: str | None = None) -> None:
        """The one who signs in next; ``mails``: address, whether primary, whether verified."""
        self.person = {"id": number, "login": f"user{number}", "name": name}
        self.mails = [
            {"email": address, "primary": primary, "verified": verified, "visibility": None}
            for address, primary, verified in mails
        ]

    def revoke(self) -> None:
        self.tokens.clear()
        self.refreshes.clear()

    async def authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert set(asked["scope"].split()) == {"read:user", "user:email"}
        if self.denies:
            denied = {"error": "access_denied", "error_description": "no", "state": asked["state"]}
            return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(denied)}", 302)
        code = token_hex(10)
        self.codes[code] = (asked["code_challenge"], asked["redirect_uri"], self.person["id"])
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def token(self, request: Request) -> Response:
        """Errors come with 200, as GitHub's do."""
        form = await request.form()
        if (form["client_id"], form["client_secret"]) != (CLIENT_ID, SECRET):
            return JSONResponse({"error": "incorrect_client_credentials"})
        if form["grant_type"] == "refresh_token":
            number = self.refreshes.pop(str(form["refresh_token"]), None)
            return JSONResponse({"error": "bad_refresh_token"}) if number is None else self._given(number)
        challenge, callback, number = self.codes.pop(str(form["code"]), ("", "", 0))
        made = urlsafe_b64encode(sha256(str(form["code_verifier"]).encode()).digest()).rstrip(b"=").decode()
        if challenge != made or callback != form["redirect_uri"]:
            return JSONResponse({"error": "bad_verification_code", "error_description": "The code is incorrect."})
        return self._given(number)

    def _given(self, number: int) -> Response:
        access, refresh = f"gho_{token_hex(16)}", f"ghr_{token_hex(16)}"
        self.tokens[access] = number
        given: dict[str, Any] = {"access_token": access, "token_type": "bearer", "scope": "read:user,user:email"}
        if self.app:
            self.refreshes[refresh] = number
            given |= {"refresh_token": refresh, "expires_in": 28800, "refresh_token_expires_in": 15897600}
        return JSONResponse(given)

    async def api(self, request: Request) -> Response:
        if self.answers:
            status, body = self.answers.pop(0)
            return JSONResponse(body, status)
        token = request.headers["authorization"].removeprefix("Bearer ")
        if token not in self.tokens:
            return JSONResponse({"message": "Bad credentials", "status": "401"}, 401)
        assert request.headers["x-github-api-version"] == "2022-11-28"
        return JSONResponse(self.mails if request.url.path.endswith("emails") else self.person)

    async def meta(self, _request: Request) -> Response:
        """Anybody may ask for it."""
        return JSONResponse({"installed_version": "3.17.0"})


@asynccontextmanager
async def github() -> AsyncIterator[GitHubServer]:
    server = GitHubServer()
    routes = [
        Route("/login/oauth/authorize", server.authorize),
        Route("/login/oauth/access_token", server.token, methods=["POST"]),
        Route("/api/v3/user", server.api),
        Route("/api/v3/user/emails", server.api),
        Route("/api/v3/meta", server.meta),
    ]
    packed = Middleware(GZipMiddleware, minimum_size=1)
    async with on_socket(Starlette(routes=routes, middleware=[packed])) as server.url:
        yield server
