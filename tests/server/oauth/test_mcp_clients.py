"""MCP clients that were not written here sign in without a key, are refused a write, ask for more, and make it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl

from db.scopes import ALL_SCOPES
from tests import node
from tests.clients.javascript import JavaScript, installed
from tests.conftest import eventually
from tests.server.oauth.browsing import addresses, allowed, at_the_browser
from tests.server.oauth.people import BACK, Inn, Person
from tests.server.oauth.token_memory import Memory

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-41")]
READ = ["projects:read"]


@pytest.fixture(scope="module")
def javascript() -> JavaScript:
    return installed()


class AtTheBrowser:
    """The person allows reading at first, and then whatever is asked for."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.asked: list[list[str]] = []
        self._told: dict[str, list[str]] = {}

    async def open(self, url: str) -> None:
        self.asked.append(parse_qs(urlsplit(url).query)["scope"][0].split())
        location = await allowed(self.person, url, READ if len(self.asked) == 1 else None)
        self._told = parse_qs(urlsplit(location).query)

    async def came_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(
            code=self._told["code"][0], state=self._told["state"][0], iss=self._told["iss"][0]
        )


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_python_client_signs_in_steps_up_once_and_writes(inn: Inn, person: Person, mode: str) -> None:
    browser, memory = AtTheBrowser(person), Memory()
    metadata = OAuthClientMetadata(client_name="Python", redirect_uris=[AnyUrl(BACK)])
    provider = OAuthClientProvider(inn.resource, metadata, memory, browser.open, browser.came_back)
    async with httpx2.AsyncClient(auth=provider, trust_env=False, timeout=30) as http:
        async with Client(streamable_http_client(inn.resource, http_client=http), mode=mode) as client:
            assert "create_project" not in {tool.name for tool in (await client.list_tools()).tools}
            assert set(browser.asked[0]) == ALL_SCOPES, "a client that names nothing asks for all there is"
            made = await client.call_tool("create_project", {"name": "Stepped up"})
            assert made.is_error is False
        async with Client(streamable_http_client(inn.resource, http_client=http), mode=mode) as client:
            assert "create_project" in {tool.name for tool in (await client.list_tools()).tools}
    assert len(browser.asked) == 2, "once"
    assert memory.tokens is not None
    assert set((memory.tokens.scope or "").split()) >= {"projects:read", "projects:write"}


async def test_the_typescript_client_signs_in_steps_up_once_and_writes(
    inn: Inn, person: Person, javascript: JavaScript
) -> None:
    async with at_the_browser(person) as url:
        said = await javascript.script("oauth", {"url": inn.resource, "person": url})
    assert said["name"] == "From TypeScript, stepped up"
    assert "create_project" not in said["readable"]
    assert [set(asked.split()) for asked in said["asked"][1:]] == [{"projects:read", "projects:write"}]
    assert said["granted"] == ["projects:read", "projects:write"]


async def test_mcp_remote_signs_in_steps_up_once_and_writes(
    inn: Inn, person: Person, javascript: JavaScript, tmp_path: Path
) -> None:
    asked: list[str] = []
    reading, writing = os.pipe()
    log = (tmp_path / "log").open("wb")

    async def browse() -> None:
        """Open each address that it prints, once."""
        async for url in addresses(reading, inn.url, log):
            asked.append(url)
            location = await allowed(person, url, READ if len(asked) == 1 else None)
            # It prints the address before it listens for the answer; a person is never that fast.
            await eventually(lambda: answered(location))  # noqa: B023  awaited before the next one

    async def answered(location: str) -> bool:
        with contextlib.suppress(httpx2.ConnectError):
            return (await person.browser.get(location)).status_code < 400
        return False

    program = StdioServerParameters(
        command=node.node(),
        args=[str(javascript.modules / "mcp-remote" / "dist" / "proxy.js"), inn.resource],
        env={**node.environment(), "HOME": str(tmp_path), "MCP_REMOTE_CONFIG_DIR": str(tmp_path), "BROWSER": "true"},
    )
    browsing = asyncio.create_task(browse())
    try:
        with os.fdopen(writing, "w") as errors:
            transport = stdio_client(program, errlog=errors)
            async with asyncio.timeout(60), Client(transport, mode="legacy") as client:
                assert "create_project" not in {tool.name for tool in (await client.list_tools()).tools}
                made = await client.call_tool("create_project", {"name": "Through mcp-remote"})
                assert made.is_error is False
    finally:
        browsing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await browsing
        log.close()
    assert len(asked) == 2, (tmp_path / "log").read_text()
