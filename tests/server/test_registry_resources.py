"""The registry as resources, over a real socket, in both eras: listed, read and completed."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client as connect
from mcp_types import ResourceTemplateReference

from db.credentials import Authenticator
from db.database import Database
from tests.conftest import Owner, Tenant, living_run
from tests.fences import unfenced
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tests.server.edge_services import EdgeServices, edge_app
from tests.server.in_process import GrantTransport
from tests.server.test_mcp_house import ERAS, address, app, connected
from tests.server.test_mcp_resources import listed
from tests.tools.shelf import PROPS, Shelf, shelf
from tools.catalog import CATALOG

__all__ = [
    "address",
    "app",
    "authenticator",
    "database",
    "house",
    "owner",
    "shelf",
    "stranger",
    "tenant",
    "unasked",
    "urls",
]
pytestmark = [pytest.mark.promise("REG-02"), pytest.mark.asyncio(loop_scope="module")]
ALL = "innkeeper://projects/{project_id}/components"
ONE = f"{ALL}/{{name}}"
FILE = f"{ONE}/files/{{+file}}"
VERSION = f"{ONE}/versions/{{version}}"


@ERAS
async def test_components_are_listed_behind_their_project_and_read_with_the_schemas_to_render_by(
    address: str, tenant: Tenant, shelf: Shelf, mode: str
) -> None:
    await shelf.publish("card", title="Card", description="A box.", props=PROPS, version="1.2.0")
    await shelf.publish("grid", "export const Grid = 1", version="2.0.0")
    base = f"innkeeper://projects/{tenant.project_id}"
    async with connected(address, tenant.token, mode) as client:
        assert [one.uri for one in await listed(client)] == [
            base,
            f"{base}/components",
            f"{base}/components/card",
            f"{base}/components/grid",
        ]

        async def read(uri: str) -> Any:
            [content] = (await client.read_resource(uri)).contents
            return content

        everything = json.loads((await read(f"{base}/components")).text)
        card, grid = everything["components"]
        assert (card["name"], card["version"], card["props"]) == ("card", "1.2.0", PROPS)
        assert unfenced(card["description"]) == "A box." != card["description"]
        assert (grid["name"], grid["props"]) == ("grid", None)
        one = json.loads((await read(f"{base}/components/card")).text)
        assert (one["name"], one["props"], one["versions"]) == (
            "card",
            PROPS,
            [{"version": "1.2.0", "status": "published"}],
        )
        file = await read(f"{base}/components/grid/files/ui/grid.tsx")
        assert (file.mime_type, unfenced(file.text)) == ("text/plain", "export const Grid = 1")
        for version in ("2.0.0", "2.x", "%5E2.0"):
            assert json.loads((await read(f"{base}/components/grid/versions/{version}")).text)["version"] == "2.0.0"
        for gone in ("none", "grid/versions/9", "grid/versions/x", "grid/files/none", "%00", "grid/versions/%00"):
            with pytest.raises(MCPError):
                await read(f"{base}/components/{gone}")


@ERAS
async def test_names_versions_and_files_are_completed_in_the_project_that_is_known(
    address: str, tenant: Tenant, stranger: Tenant, shelf: Shelf, mode: str
) -> None:
    for number in range(3):
        await shelf.publish("card", f"code {number}", version=f"1.{number}.0")
    await shelf.publish("chart")
    async with connected(address, tenant.token, mode) as client, connected(address, stranger.token, mode) as other:
        known = {"project_id": str(tenant.project_id)}

        async def completed(by: Any, template: str, argument: str, typed: str, **further: str) -> list[str]:
            found = await by.complete(
                ResourceTemplateReference(uri=template),
                {"name": argument, "value": typed},
                context_arguments={**known, **further},
            )
            return list(found.completion.values)

        assert await completed(client, ONE, "name", "c") == ["card", "chart"]
        assert await completed(client, ONE, "name", "cha") == ["chart"]
        assert await completed(client, VERSION, "version", "1.", name="card") == ["1.2.0", "1.1.0", "1.0.0"]
        assert await completed(client, FILE, "file", "ui/", name="card") == ["ui/card.tsx"]
        assert await completed(client, FILE, "file", "ui/", name="none") == []
        assert await completed(other, ONE, "name", "") == []
        assert await completed(other, FILE, "file", "", name="card") == []


async def test_a_long_list_of_components_keeps_its_bound_and_says_how_to_go_on(
    address: str, tenant: Tenant, shelf: Shelf
) -> None:
    wordy = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "d" * 90} for n in range(30)}}
    for number in range(30):
        await shelf.publish(f"card-{number:02}", props=wordy)
    async with connected(address, tenant.token, "2026-07-28") as client:
        [content] = (await client.read_resource(ALL.format(project_id=tenant.project_id))).contents
        assert len(content.text.encode()) <= 25_000  # type: ignore[union-attr]  # text contents
        found = json.loads(content.text)  # type: ignore[union-attr]  # text contents
        names = [one["name"] for one in found["components"]]
        assert 0 < len(names) < 30
        given = {"project_id": str(tenant.project_id), "cursor": found["next_cursor"]}
        rest = dict((await client.call_tool("search_components", given)).structured_content or {})
        names += [one["name"] for one in rest["components"]]
        assert names == [f"card-{number:02}" for number in range(len(names))]


async def test_the_agent_of_a_run_reads_what_to_render_with_and_how(
    database: Database, authenticator: Authenticator, tenant: Tenant, owner: Owner, shelf: Shelf
) -> None:
    """As the engine's own client does: in this process, with the grant of its run."""
    await shelf.publish("price-card", title="Price", description="What a plan costs.", props=PROPS)
    grant = tenant.principal.for_run(await living_run(owner, tenant), depth=1, epoch=1, scopes={"registry:read"})
    house = edge_app(EdgeServices(CATALOG, shelf.dispatch, cast("Any", authenticator), cast("Any", database)))
    transport = GrantTransport(house.state.mcp_app, grant)
    uri = ALL.format(project_id=tenant.project_id)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://innkeeper.internal") as http,
        Client(connect("http://innkeeper.internal/mcp", http_client=http)) as agent,
    ):
        [content] = (await agent.read_resource(uri)).contents
    [found] = json.loads(content.text)["components"]  # type: ignore[union-attr]  # text contents
    rendered = {"component": found["name"], "props": {"heading": "9 EUR"}}
    validator = Draft202012Validator(found["props"])
    assert validator.is_valid(rendered["props"])
    assert not validator.is_valid({"heading": 9})
    assert rendered["component"] == "price-card"
