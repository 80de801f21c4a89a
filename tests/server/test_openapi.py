"""The document of the plain HTTP: it names every route there is, and no other."""

from __future__ import annotations

import httpx2
import pytest
from starlette.routing import Route

from server.http.address import MCP_PATH
from server.openapi.document import PATH
from server.openapi.pages import template
from server.site.rendering import STYLE_URL
from tests.server.edge_services import edge_app, edge_services

DESCRIBE_THEMSELVES = {MCP_PATH, f"{MCP_PATH}/", STYLE_URL}
BY_SETTINGS = {"/metrics", "/webhooks/storage"}


@pytest.mark.promise("RUN-12")
async def test_every_route_is_described_and_no_other() -> None:
    app = edge_app(edge_services())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as http:
        said = (await http.get(PATH)).json()
    described = {(method.upper(), path) for path, item in said["paths"].items() for method in item}
    there = {
        (method, template(route.path).removesuffix(":path"))
        for route in app.routes
        if isinstance(route, Route) and route.path not in DESCRIBE_THEMSELVES | BY_SETTINGS
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }
    # A page is described by itself (server.site.pages.PageRoute); another route, by an Operation in server/openapi.
    assert described == there
    names = [one["operationId"] for item in said["paths"].values() for one in item.values()]
    assert len(set(names)) == len(names)


async def test_allow_names_what_all_routes_of_a_path_answer() -> None:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=edge_app(edge_services())), base_url="http://localhost"
    ) as http:
        answer = await http.delete("/sign-in")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
