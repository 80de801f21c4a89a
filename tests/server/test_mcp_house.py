"""The real catalogue over a real socket, a real database and the official client, in both eras."""

import contextlib
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
import pytest_asyncio
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette

from db.credentials import Authenticator
from db.database import Database
from server.app import create_app
from tests.conftest import House, Tenant
from tests.fences import unfenced
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.server.edge_services import EdgeServices, served
from tools.catalog import CATALOG
from tools.dispatch import Dispatch

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def app(database: Database, authenticator: Authenticator, dispatch: Dispatch) -> Starlette:
    services = EdgeServices(
        CATALOG, dispatch, cast("Any", authenticator), cast("Any", database), SimpleNamespace(states=dict)
    )
    return create_app(cast("Any", services))


@pytest_asyncio.fixture(loop_scope="module")
async def address(app: Starlette) -> AsyncIterator[str]:
    async with served(app) as (host, port):
        yield f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def connected(address: str, token: str, mode: str, query: str = "") -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http:
        transport = streamable_http_client(f"{address}/mcp{query}", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])


@pytest.mark.promise("HOME-10")
@ERAS
@pytest.mark.usefixtures("unasked")
async def test_the_official_client_lives_a_project_from_creation_to_deletion(
    address: str, tenant: Tenant, mode: str
) -> None:
    async with connected(address, tenant.token, mode) as client:
        # A client pinned to the modern era asks nobody who the server is before its first answer.
        assert client.server_info is None or client.server_info.title == "Innkeeper"
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names >= {"list_projects", "get_project", "create_project", "update_project", "delete_project"}
        made = await client.call_tool("create_project", {"name": "Blue room"})
        assert made.is_error is False
        project = cast("dict[str, Any]", made.structured_content)
        assert json.loads(unfenced(made.content[0].text)) == project  # type: ignore[union-attr]  # text content
        target = {"project_id": project["id"]}
        changed = await client.call_tool("update_project", target | {"instructions": "Be kind."})
        assert cast("dict[str, Any]", changed.structured_content)["instructions"] == "Be kind."
        uri = f"innkeeper://projects/{project['id']}"
        (content,) = (await client.read_resource(uri)).contents
        assert json.loads(unfenced(content.text))["name"] == "Blue room"  # type: ignore[union-attr]  # text contents
        assert (await client.call_tool("delete_project", target)).is_error is False
        gone = await client.call_tool("get_project", target)
        assert gone.is_error is True
        assert "project_not_found" in gone.content[0].text  # type: ignore[union-attr]  # text content


@pytest.mark.promise("HOME-10")
@ERAS
async def test_a_key_that_may_only_read_sees_and_does_only_that(
    address: str, house: House, tenant: Tenant, mode: str
) -> None:
    token = await house.key(tenant.user_id, scopes=["projects:read"])
    async with connected(address, token, mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"list_projects", "get_project"}
        with pytest.raises(MCPError, match="projects:write"):
            await client.call_tool("create_project", {"name": "No"})


@pytest.mark.promise("HOME-10", "MCP-03")
@ERAS
async def test_a_connection_narrowed_by_its_url_needs_no_project_id(address: str, tenant: Tenant, mode: str) -> None:
    query = f"?project={tenant.project_id}&read_only=1"
    async with connected(address, tenant.token, mode, query) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        reading = [spec for spec in CATALOG.tools if spec.hints.read_only and spec.family in CATALOG.default_families]
        assert set(tools) == {spec.name for spec in reading}
        assert "project_id" not in tools["get_project"].input_schema.get("properties", {})
        found = await client.call_tool("get_project", {})
        assert cast("dict[str, Any]", found.structured_content)["id"] == str(tenant.project_id)


@pytest.mark.promise("HOME-10")
@pytest.mark.parametrize("by", ["meta", "header"])
async def test_a_repeated_write_with_the_same_key_happens_once(address: str, tenant: Tenant, by: str) -> None:
    async with httpx2.AsyncClient(
        base_url=address, headers={"authorization": f"Bearer {tenant.token}"}, timeout=60
    ) as http:

        async def create(name: str) -> dict[str, Any]:
            params: dict[str, Any] = {"name": "create_project", "arguments": {"name": name}}
            headers = {"accept": "application/json"}
            if by == "meta":
                params["_meta"] = {"innkeeper/idempotency_key": "once"}
            else:
                headers["idempotency-key"] = "once"
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            answer = await http.post("/mcp", json=message, headers=headers)
            return dict(answer.json()["result"])

        first, second, other = await create("Once"), await create("Once"), await create("Twice")
    assert first["structuredContent"] == second["structuredContent"]
    assert other["isError"] is True


@pytest.mark.promise("HOME-61")
async def test_ready_metrics_and_health_over_the_real_database(address: str) -> None:
    async with httpx2.AsyncClient(base_url=address, timeout=60) as http:
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/healthz")).status_code == 200
