"""``GET /mcp/preview`` and what a URL chooses, over a real socket and a real database."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from server.mcp import costs
from tests import budget
from tests.conftest import House, Tenant
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.server.test_mcp_house import ERAS, address, app, connected
from tools.catalog import CATALOG

__all__ = ["address", "app", "authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("MCP-03"), pytest.mark.asyncio(loop_scope="module")]


async def get(address: str, token: str | None, query: str = "") -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=60) as http:
        return await http.get(f"/mcp/preview{query}")


async def shown(address: str, token: str, query: str = "") -> dict[str, Any]:
    answer = await get(address, token, query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


async def test_the_preview_shows_tools_resources_prompts_scopes_and_their_cost(address: str, tenant: Tenant) -> None:
    found = await shown(address, tenant.token)
    assert [tool["name"] for tool in found["tools"]] == list(budget.listed())
    assert {tool["name"]: tool["tokens"] for tool in found["tools"]} == budget.listed()
    assert found["tokens"]["tools"] == sum(budget.listed().values())
    assert found["tokens"]["total"] == found["tokens"]["tools"] + found["tokens"]["instructions"]
    assert found["tokens"]["encoding"] == "o200k_base"
    assert {"projects:read", "projects:write"} <= set(found["scopes"])
    assert [one["uri_template"] for one in found["resources"]] == [spec.uri_template for spec in CATALOG.resources]
    assert [one["name"] for one in found["prompts"]] == [spec.name for spec in CATALOG.prompts]
    assert found["families"]["offered"] == sorted(CATALOG.default_families)
    assert (found["project_id"], found["read_only"]) == (None, False)


@ERAS
@pytest.mark.parametrize("case", ["", "?project={id}", "?read_only=1", "?tools=projects", "?project={id}&read_only=1"])
async def test_the_preview_is_what_a_connection_then_sees(
    address: str, tenant: Tenant, house: House, mode: str, case: str
) -> None:
    query = case.format(id=tenant.project_id)
    reader = await house.key(tenant.user_id, scopes=["projects:read", "runs:read"])
    for token in (tenant.token, reader):
        found = await shown(address, token, query)
        async with connected(address, token, mode, query) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == [tool["name"] for tool in found["tools"]]
            prompts = (await client.list_prompts()).prompts
            assert [prompt.name for prompt in prompts] == [prompt["name"] for prompt in found["prompts"]]
            counted: int = sum(
                budget.tokens(costs.counted_text(tool.name, tool.description or "", tool.input_schema))
                for tool in tools
            )
            # A client may print the keys of a schema in another order, which moves a token or two.
            assert found["tokens"]["tools"] == pytest.approx(counted, rel=0.01)


async def test_read_only_leaves_scopes_and_tools_that_read(address: str, tenant: Tenant) -> None:
    found = await shown(address, tenant.token, "?read_only=1")
    assert found["read_only"] is True
    assert all(scope.endswith(":read") for scope in found["scopes"])
    assert all(tool["read_only"] for tool in found["tools"])


async def test_a_url_cannot_widen_a_key_and_the_preview_says_so_too(
    address: str, tenant: Tenant, stranger: Tenant, house: House
) -> None:
    bound = await house.key(tenant.user_id, project_id=tenant.project_id)
    assert (await shown(address, bound))["project_id"] == str(tenant.project_id)
    refused = await get(address, bound, f"?project={stranger.project_id}")
    assert refused.status_code == 404
    assert refused.json()["type"].endswith("project_not_found")


@pytest.mark.parametrize("token", [None, "ik_sk_wrong"])
async def test_the_preview_wants_the_same_key_as_the_endpoint(address: str, token: str | None) -> None:
    refused = await get(address, token)
    assert refused.status_code == 401
    assert "resource_metadata=" in refused.headers["www-authenticate"]


@pytest.mark.parametrize("query", ["?tools=pigeons", "?tools=", "?tools=projects,pigeons"])
async def test_a_family_there_is_not_is_400_for_every_method_and_the_preview(
    address: str, tenant: Tenant, query: str
) -> None:
    assert (await get(address, tenant.token, query)).status_code == 400
    headers = {"authorization": f"Bearer {tenant.token}", "accept": "application/json"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=60) as http:
        for method in ("initialize", "tools/list", "tools/call", "resources/list", "prompts/list", "ping", "nonsense"):
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
            answer = await http.post(f"/mcp{query}", json=message)
            assert answer.status_code == 400, method
            assert f"Families are {', '.join(sorted(CATALOG.families))}." in answer.json()["error"]["message"]
