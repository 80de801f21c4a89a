"""People who press buttons, and programs that ask them for tokens as RFC 6749 and MCP have it."""

from __future__ import annotations

import contextlib
import html
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import asyncpg
import httpx2
from starlette.applications import Starlette

from db import accounts, sessions
from db.ids import uuid7
from server.services import Services

BACK = "http://127.0.0.1:9/back"
VERIFIER = "a-verifier-that-only-tests-have-" + "0123456789" * 2
CODE = "authorization_code"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Inn:
    """The house. ``url`` is its issuer."""

    url: str
    owner: asyncpg.Connection[asyncpg.Record] = field(repr=False)
    services: Services = field(repr=False)
    owner_url: str = field(default="", repr=False)
    app: Starlette = field(default_factory=Starlette, repr=False)

    @property
    def resource(self) -> str:
        return f"{self.url}/mcp"

    @contextlib.asynccontextmanager
    async def person(self, *projects: str) -> AsyncIterator[Person]:
        user_id = await accounts.create_user(self.owner, f"{uuid7().hex}@example.test", "Somebody")
        made = {}
        for name in projects or ("One", "Two"):
            made[name] = uuid7()
            await self.owner.execute(
                "INSERT INTO projects (id, name, created_by) VALUES ($1, $2, $3)", made[name], name, user_id
            )
        async with self.browser() as browser:
            person = Person(self, browser, user_id, made)
            await person.sign_in()
            yield person

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Keeps cookies, sends its origin with forms, and goes nowhere by itself."""
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as browser:
            browser.headers["origin"] = self.url
            yield browser

    async def program(self, **metadata: Any) -> Program:
        """One that has registered itself."""
        asked = {"client_name": "A program", "redirect_uris": [BACK], "token_endpoint_auth_method": "none", **metadata}
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
            answer = await http.post("/oauth/register", json=asked)
        assert answer.status_code == 201, answer.text
        return Program(self, answer.json()["client_id"], answer.json().get("client_secret"))


@dataclass
class Person:
    inn: Inn
    browser: httpx2.AsyncClient
    user_id: UUID
    projects: Mapping[str, UUID]

    async def sign_in(self) -> None:
        link = await sessions.create_link(self.inn.owner, self.user_id)
        opened = await self.browser.post("/sign-in/link", data={"link": link, "to": "/approvals"})
        assert opened.status_code == 303

    async def press(
        self,
        page: httpx2.Response,
        decision: str,
        *,
        scopes: Sequence[str] | None = None,
        projects: Sequence[str] | None = None,
        read_only: bool = False,
        **changes: str,
    ) -> httpx2.Response:
        """Send the form of ``page``. ``scopes``: those to tick, by default all that are ticked; ``projects``: by
        name, by default all."""
        assert page.status_code in (200, 400), page.text
        sent: dict[str, Any] = {**hidden(page), "decision": decision, "scope": ticked(page)}
        if scopes is not None:
            sent["scope"] = list(scopes)
        sent["projects"] = "all" if projects is None else "some"
        sent["project"] = [str(self.projects[name]) for name in projects or ()]
        if read_only:
            sent["read_only"] = "1"
        return await self.browser.post(str(page.url), data={**sent, **changes})


@dataclass
class Program:
    """An OAuth client. Its requests are in order unless a test says otherwise."""

    inn: Inn
    client_id: str
    secret: str | None = None
    redirect_uri: str = BACK

    def address(self, **changes: Any) -> str:
        """Of the authorization page; ``None`` leaves a parameter out."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": "the-state",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "resource": self.inn.resource,
            "scope": "projects:read projects:write",
        }
        told = {name: value for name, value in {**asked, **changes}.items() if value is not None}
        return f"{self.inn.url}/oauth/authorize?{urlencode(told, doseq=True)}"

    async def code(self, person: Person, *, asked: Mapping[str, Any] | None = None, **pressed: Any) -> str:
        """What the person's yes is worth."""
        page = await person.browser.get(self.address(**asked or {}))
        answer = page if page.status_code == 303 else await person.press(page, "allow", **pressed)
        return answered(answer)["code"]

    async def post(self, path: str, **form: Any) -> httpx2.Response:
        """As this client, with its secret in the form if it has one."""
        known = {"client_id": self.client_id, "client_secret": self.secret}
        sent = {name: value for name, value in {**known, **form}.items() if value is not None}
        async with httpx2.AsyncClient(base_url=self.inn.url, trust_env=False, timeout=30) as http:
            return await http.post(path, data=sent)

    async def exchange(self, code: str, **changes: Any) -> httpx2.Response:
        form = {"code": code, "code_verifier": VERIFIER, "redirect_uri": self.redirect_uri, **changes}
        return await self.post("/oauth/token", grant_type=CODE, **form)

    async def tokens(self, person: Person, *, asked: Mapping[str, Any] | None = None, **pressed: Any) -> dict[str, Any]:
        """From the first request to the tokens."""
        answer = await self.exchange(await self.code(person, asked=asked, **pressed))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refresh(self, token: str, **form: Any) -> httpx2.Response:
        return await self.post("/oauth/token", grant_type="refresh_token", refresh_token=token, **form)


async def call(inn: Inn, token: str, tool: str, /, **arguments: Any) -> httpx2.Response:
    """``tools/call`` with a bearer token."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=30) as http:
        return await http.post("/mcp", json=message, headers=headers)


def answered(answer: httpx2.Response) -> dict[str, str]:
    """What a client reads from the address that the browser was sent to."""
    assert answer.status_code == 303, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values()), query
    return {name: values[0] for name, values in query.items()}


def hidden(page: httpx2.Response) -> dict[str, str]:
    """The hidden fields of the page's last form, which is not the one that signs out."""
    form = page.text.rpartition("<form")[2]
    found = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    return {name: html.unescape(value) for name, value in found}


def ticked(page: httpx2.Response) -> list[str]:
    return re.findall(r'name="scope" value="([^"]+)" checked', page.text)


def offered(page: httpx2.Response) -> list[str]:
    return re.findall(r'name="scope" value="([^"]+)"', page.text)
