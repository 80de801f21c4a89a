"""A call beyond the scopes of a token: clients that sign in ask for more and succeed, all others are told the same."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from mcp.shared.exceptions import MCPError
from pydantic import AnyUrl
from starlette.applications import Starlette

from db.credentials import Authenticator
from db.database import Database
from db.scopes import Scope
from tests.conftest import House, Owner, Tenant
from tests.fakes.authorization_server import AuthorizationServer
from tests.fakes.sockets import on_socket
from tests.server.edge_services import READ_KEY, EdgeServices, client_of, edge_app, edge_services, principal, served
from tests.server.edge_tools import Echo
from tests.server.in_process import GrantTransport
from tests.server.oauth.token_memory import Memory
from tools.catalog import CATALOG, Catalog
from tools.contract import Caller, tool
from tools.dispatch import Dispatch

pytestmark = pytest.mark.promise("MCP-04")
ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "change_something", "arguments": {}}}


def signing_in(url: str, signs: AuthorizationServer, memory: Memory) -> OAuthClientProvider:
    metadata = OAuthClientMetadata(client_name="Step", redirect_uris=[AnyUrl("http://127.0.0.1:1/back")])
    return OAuthClientProvider(url, metadata, memory, signs.consent, signs.came_back)


@pytest.fixture
def app(database: Database, authenticator: Authenticator, dispatch: Dispatch) -> Starlette:
    return edge_app(EdgeServices(CATALOG, dispatch, cast("Any", authenticator), cast("Any", database)))


@ERAS
async def test_the_official_client_asks_for_the_missing_scope_and_its_call_succeeds_once(
    app: Starlette, house: House, tenant: Tenant, owner: Owner, mode: str
) -> None:
    async def mint(scopes: list[str]) -> str:
        return await house.key(tenant.user_id, scopes=scopes)

    signs = AuthorizationServer(app, mint, usual="projects:read")
    memory = Memory()
    async with served(signs.app) as (host, port):
        url = f"http://{host}:{port}/mcp"
        async with httpx2.AsyncClient(auth=signing_in(url, signs, memory), trust_env=False, timeout=30) as http:
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                names = {tool.name for tool in (await client.list_tools()).tools}
                assert names == {"list_projects", "get_project"}
                assert signs.asked == [None]

                made = await client.call_tool("create_project", {"name": "Stepped up"})
                assert made.is_error is False
                assert signs.asked[1:] == ["projects:read projects:write"]

            # A client of the modern era keeps a list for the minute it is good for; a new one asks anew.
            async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
                assert "create_project" in {tool.name for tool in (await client.list_tools()).tools}
                assert (await client.call_tool("list_projects", {})).is_error is False
    assert len(signs.asked) == 2, "what the token had it still has"
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'Stepped up'") == 1


@ERAS
async def test_a_client_that_ignores_the_header_is_told_which_scope_in_the_body(mode: str) -> None:
    async with (
        on_socket(edge_app(edge_services())) as url,
        httpx2.AsyncClient(headers={"authorization": f"Bearer {READ_KEY}"}, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        with pytest.raises(MCPError, match="projects:write") as caught:
            await client.call_tool("change_something", {})
    told = caught.value.data
    assert told["code"] == "insufficient_scope"
    assert told["hint"] in caught.value.message
    assert told["retryable"] is False
    assert told["ask"] == {"scope": "projects:write"}


async def test_a_resource_beyond_the_scopes_asks_for_the_scope_too() -> None:
    services = edge_services()
    services.authenticator.tokens["runs"] = principal("runs:read")
    uri = f"innkeeper://edges/{principal().user_id}"
    read = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}}
    async with client_of(edge_app(services), "runs") as http:
        answer = await http.post("/mcp", json=read)
    assert answer.status_code == 403
    assert 'scope="projects:read runs:read"' in answer.headers["www-authenticate"]
    assert answer.json()["error"]["data"]["ask"] == {"scope": "projects:read"}


async def test_no_token_is_asked_for_where_another_one_would_not_help() -> None:
    services = edge_services()
    services.authenticator.tokens["both"] = principal("projects:read", read_only=True)
    async with client_of(edge_app(services), "both") as http:
        answer = await http.post("/mcp", json=CALL)
    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers
    assert answer.json()["result"]["_meta"]["innkeeper/error"]["code"] == "read_only"


async def test_a_tool_that_takes_long_is_refused_with_a_status_before_any_stream_begins() -> None:
    @tool(Scope.projects_write, read_only=False, destructive=False, idempotent=True, open_world=False, takes_long=True)
    async def dig(call: Caller) -> Echo:
        """Dig for a long time."""
        raise AssertionError("a caller without the scope reached the tool")

    services = edge_services()
    services.catalog = Catalog((dig,))
    services.dispatch = Dispatch(services.dispatch.services, services.catalog)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "dig", "arguments": {}}}
    async with client_of(edge_app(services), READ_KEY) as http:
        answer = await http.post("/mcp", json=call)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"


async def test_in_a_batch_only_the_one_call_is_refused() -> None:
    echo = {"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
    async with client_of(edge_app(edge_services()), READ_KEY) as http:
        answer = await http.post("/mcp", json=[CALL, echo], headers={"mcp-protocol-version": "2025-03-26"})
    assert answer.status_code == 200
    refused, done = answer.json()
    assert refused["result"]["_meta"]["innkeeper/error"]["ask"] == {"scope": "projects:write"}
    assert done["result"]["isError"] is False


async def test_a_run_gets_the_tools_result_because_it_cannot_ask_for_a_token() -> None:
    services = edge_services()
    grant = principal("projects:read").for_run(principal().user_id, depth=1, epoch=1)
    services.authenticator.tokens["lender"] = grant
    app = edge_app(services).state.mcp_app
    headers = {"accept": "application/json"}
    async with httpx2.AsyncClient(
        transport=GrantTransport(app, grant), base_url="http://in.process", headers=headers
    ) as http:
        answer = await http.post("/mcp", json=CALL)
    assert answer.status_code == 200
    assert "projects:write" in json.dumps(answer.json()["result"]["content"])
