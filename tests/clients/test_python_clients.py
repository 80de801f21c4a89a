"""The MCP clients people write Python with, over a real socket, in both eras of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import uuid4

import httpx2
import pytest
from fastmcp import Client as FastMCPClient
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.conftest import House, Owner, Tenant
from tests.serving import Served

Answered: TypeAlias = Callable[[httpx2.Response], Awaitable[None]]
ERAS = pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])
PROJECT_TOOLS = {"list_projects", "get_project", "create_project", "update_project", "delete_project"}


@asynccontextmanager
async def mcp_client(
    url: str, token: str | None, mode: str = "auto", on_answer: Answered | None = None
) -> AsyncIterator[Client]:
    """The SDK's own client; ``on_answer`` sees every HTTP answer it gets."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    hooks = {"response": [on_answer]} if on_answer else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False, event_hooks=hooks) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.promise("HOME-40", "HOME-10")
@ERAS
@pytest.mark.usefixtures("unasked")
async def test_the_mcp_client_works_with_projects_from_creation_to_deletion(
    served: Served, tenant: Tenant, owner: Owner, mode: str, version: str
) -> None:
    async with mcp_client(served.mcp, tenant.token, mode) as client:
        assert client.protocol_version == version
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) >= PROJECT_TOOLS
        created = await call(client, "create_project", name="From Python")
        assert created["name"] == "From Python"
        changed = await call(
            client,
            "update_project",
            project_id=created["id"],
            instructions="Be brief.",
            model_parameters={"temperature": 0.5},
        )
        assert await call(client, "get_project", project_id=created["id"]) == changed
        assert changed["instructions"] == "Be brief."
        listed = await call(client, "list_projects", limit=1)
        assert [project["id"] for project in listed["projects"]] == [created["id"]]
        rest = await call(client, "list_projects", cursor=listed["next_cursor"])
        assert [project["id"] for project in rest["projects"]] == [str(tenant.project_id)]
        assert (await call(client, "delete_project", project_id=created["id"]))["deleted"] is True
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'From Python'") == 0


@pytest.mark.promise("HOME-40", "HOME-10")
@MODES
async def test_the_mcp_client_is_told_what_was_wrong_and_what_to_do(served: Served, tenant: Tenant, mode: str) -> None:
    async with mcp_client(served.mcp, tenant.token, mode) as client:
        refused = await client.call_tool("get_project", {"project_id": str(uuid4())})
        assert refused.is_error
        [content] = refused.content
        assert content.type == "text"
        assert "[project_not_found]" in content.text
        assert "list_projects" in content.text
        assert refused.meta is not None
        told = refused.meta["innkeeper/error"]
        assert told["code"] == "project_not_found"
        assert told["retryable"] is False
        assert "list_projects" in told["hint"]
        with pytest.raises(MCPError, match="There is no tool 'open_the_minibar'"):
            await client.call_tool("open_the_minibar", {})


@pytest.mark.promise("HOME-40", "HOME-10")
@MODES
async def test_the_mcp_client_reads_a_project_as_a_resource(
    served: Served, house: House, tenant: Tenant, mode: str
) -> None:
    bound = await house.key(tenant.user_id, project_id=tenant.project_id)
    async with mcp_client(served.mcp, bound, mode) as client:
        [resource] = (await client.list_resources()).resources
        [content] = (await client.read_resource(resource.uri)).contents
        assert str(tenant.project_id) in content.model_dump_json()


@pytest.mark.promise("HOME-40", "HOME-10")
@MODES
async def test_the_mcp_client_sees_what_the_key_and_the_address_allow(
    served: Served, house: House, tenant: Tenant, mode: str
) -> None:
    async def names(url: str, token: str) -> set[str]:
        async with mcp_client(url, token, mode) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    reader = await house.key(tenant.user_id, scopes=["projects:read"])
    everything = await names(served.mcp, tenant.token)
    readable = await names(served.mcp, reader)
    assert readable & PROJECT_TOOLS == {"list_projects", "get_project"}
    assert readable < everything
    assert "create_project" not in await names(f"{served.mcp}?read_only=1", tenant.token)
    narrowed = f"{served.mcp}?project={tenant.project_id}"
    assert "create_project" not in await names(narrowed, tenant.token)
    async with mcp_client(narrowed, tenant.token, mode) as client:
        assert (await call(client, "get_project"))["id"] == str(tenant.project_id)


@pytest.mark.promise("HOME-40", "HOME-11")
@MODES
async def test_the_mcp_client_without_a_key_is_refused(served: Served, mode: str) -> None:
    answers: list[httpx2.Response] = []

    async def note(answer: httpx2.Response) -> None:
        answers.append(answer)

    with pytest.RaisesGroup(MCPError, flatten_subgroups=True):
        async with mcp_client(served.mcp, None, mode, note):
            pass
    assert {answer.status_code for answer in answers} == {401}
    challenge = answers[0].headers["www-authenticate"]
    assert f'resource_metadata="{served.url}/.well-known/oauth-protected-resource' in challenge


@pytest.mark.promise("HOME-40")
@ERAS
async def test_the_fastmcp_client_works_with_projects(served: Served, tenant: Tenant, mode: str, version: str) -> None:
    transport = StreamableHttpTransport(served.mcp, auth=tenant.token)
    async with FastMCPClient(transport, mode=mode) as client:
        assert client.protocol_version == version
        assert {tool.name for tool in await client.list_tools()} >= PROJECT_TOOLS
        created = await client.call_tool("create_project", {"name": "From fastmcp"})
        assert created.structured_content is not None
        assert created.data.name == "From fastmcp"
        fetched = await client.call_tool("get_project", {"project_id": created.structured_content["id"]})
        assert fetched.structured_content == created.structured_content
        with pytest.raises(ToolError, match=r"list_projects.*\[project_not_found\]"):
            await client.call_tool("get_project", {"project_id": str(uuid4())})


async def call(client: Client, name: str, /, **arguments: Any) -> dict[str, Any]:
    """A call that must succeed; its structured content, which the client has held against the output schema."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    structured = result.structured_content
    assert isinstance(structured, dict)
    return structured
