"""Projects as resources, and the completion of their ids, over a real socket and a real database, in both eras."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import MCPError
from mcp.client import Client
from mcp_types import PromptReference, ResourceTemplateReference

from db.ids import uuid7
from tests.conftest import House, Owner, Tenant
from tests.fences import unfenced
from tests.server.test_mcp_house import ERAS, address, app, connected

__all__ = ["address", "app"]
pytestmark = pytest.mark.promise("MCP-07")
TEMPLATE = "innkeeper://projects/{project_id}"


async def make_projects(owner: Owner, tenant: Tenant, *names: str) -> list[str]:
    """One project of the tenant for each name; their ids, in this order."""
    ids = sorted(uuid7() for _ in names)
    await owner.executemany(
        "INSERT INTO projects (id, name, created_by) VALUES ($1, $2, $3)",
        [(project_id, name, tenant.user_id) for project_id, name in zip(ids, names, strict=True)],
    )
    return [str(project_id) for project_id in ids]


async def listed(client: Client) -> list[Any]:
    """Every resource, by following the cursors."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await client.list_resources(cursor=cursor)
        found += page.resources
        cursor = page.next_cursor
        if cursor is None:
            return found


@ERAS
async def test_every_project_of_the_caller_is_listed_once_newest_first_over_pages(
    address: str, tenant: Tenant, stranger: Tenant, owner: Owner, mode: str
) -> None:
    ids = await make_projects(owner, tenant, *(f"p{number}" for number in range(120)))
    async with connected(address, tenant.token, mode) as client:
        found = await listed(client)
    assert [one.uri for one in found] == [
        f"innkeeper://projects/{project_id}" for project_id in [*reversed(ids), tenant.project_id]
    ]
    assert found[0].title == "p119"
    assert found[0].name == f"project-{ids[-1]}"
    assert found[0].description == "A project with all its settings."
    assert str(stranger.project_id) not in str(found)


@ERAS
async def test_a_listed_resource_reads_and_its_template_expands_to_it(address: str, tenant: Tenant, mode: str) -> None:
    async with connected(address, tenant.token, mode) as client:
        [template] = (await client.list_resource_templates()).resource_templates
        assert (template.uri_template, template.title) == (TEMPLATE, "Project")
        [resource] = await listed(client)
        assert resource.uri == TEMPLATE.replace("{project_id}", str(tenant.project_id))
        [content] = (await client.read_resource(resource.uri)).contents
    assert json.loads(unfenced(content.text))["id"] == str(tenant.project_id)  # type: ignore[union-attr]  # text


@ERAS
async def test_a_caller_bound_to_a_project_sees_only_that_one(
    address: str, tenant: Tenant, owner: Owner, house: House, mode: str
) -> None:
    await make_projects(owner, tenant, "another")
    bound = await house.key(tenant.user_id, project_id=tenant.project_id)
    for token, query in ((bound, ""), (tenant.token, f"?project={tenant.project_id}")):
        async with connected(address, token, mode, query) as client:
            [resource] = await listed(client)
            assert resource.uri.endswith(str(tenant.project_id))


@ERAS
async def test_without_the_scope_there_are_no_resources_no_templates_and_no_completion(
    address: str, tenant: Tenant, house: House, mode: str
) -> None:
    token = await house.key(tenant.user_id, scopes=["runs:read"])
    async with connected(address, token, mode) as client:
        assert await listed(client) == []
        assert (await client.list_resource_templates()).resource_templates == []
        with pytest.raises(MCPError, match="resource_not_found"):
            await client.complete(ResourceTemplateReference(uri=TEMPLATE), {"name": "project_id", "value": ""})


@ERAS
async def test_a_cursor_that_is_none_is_refused_with_what_to_do(address: str, tenant: Tenant, mode: str) -> None:
    async with connected(address, tenant.token, mode) as client:
        with pytest.raises(MCPError, match="Leave cursor out") as caught:
            await client.list_resources(cursor="nonsense")
    assert caught.value.error.code == -32602


async def test_rows_say_they_hold_for_no_time_and_definitions_for_a_minute(address: str, tenant: Tenant) -> None:
    async with connected(address, tenant.token, "2026-07-28") as client:
        rows, definitions = await client.list_resources(), await client.list_resource_templates()
        read = await client.read_resource(rows.resources[0].uri)
        prompts = await client.list_prompts()
    for answer, milliseconds in ((rows, 0), (read, 0), (definitions, 60_000), (prompts, 60_000)):
        assert (answer.ttl_ms, answer.cache_scope) == (milliseconds, "private")


@pytest.mark.parametrize(("mode", "code"), [("legacy", -32002), ("2026-07-28", -32602)])
async def test_what_the_caller_cannot_see_is_not_found_as_its_era_says_it(
    address: str, tenant: Tenant, stranger: Tenant, mode: str, code: int
) -> None:
    async with connected(address, tenant.token, mode) as client:
        for uri in (f"innkeeper://projects/{stranger.project_id}", f"innkeeper://projects/{uuid7()}", "innkeeper://x"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
            assert caught.value.error.code == code
            assert caught.value.error.data["uri"] == uri
            assert str(stranger.project_id) not in caught.value.error.message


@ERAS
async def test_ids_are_completed_by_the_beginning_of_an_id_or_a_name_of_the_callers_projects(
    address: str, tenant: Tenant, stranger: Tenant, owner: Owner, mode: str
) -> None:
    shop, show, cafe = await make_projects(owner, tenant, "Web shop", "web show", "Café 100%")
    await make_projects(owner, stranger, "Web of others")
    ref = ResourceTemplateReference(uri=TEMPLATE)
    async with connected(address, tenant.token, mode) as client:

        async def ids(typed: str) -> list[str]:
            return (await client.complete(ref, {"name": "project_id", "value": typed})).completion.values

        assert await ids("we") == [shop, show]
        assert await ids("café") == [cafe]
        assert await ids("%") == []
        assert await ids(shop[:-1].upper()) == [shop]
        assert set(await ids("")) == {shop, show, cafe, str(tenant.project_id)}
        with pytest.raises(MCPError, match="no argument"):
            await client.complete(ref, {"name": "colour", "value": ""})
        with pytest.raises(MCPError, match="no prompt 'x'"):
            await client.complete(PromptReference(name="x"), {"name": "project", "value": ""})


async def test_more_than_a_hundred_values_are_cut_and_said_to_be(address: str, tenant: Tenant, owner: Owner) -> None:
    await make_projects(owner, tenant, *(f"p{number}" for number in range(101)))
    async with connected(address, tenant.token, "2026-07-28") as client:
        found = await client.complete(ResourceTemplateReference(uri=TEMPLATE), {"name": "project_id", "value": "p"})
    assert len(found.completion.values) == 100
    assert found.completion.has_more is True
