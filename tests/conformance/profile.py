"""The test-only profile: the production application with the official suite's fixtures mounted on its MCP server.

Front door, host guard, limits, authentication, narrowing, lanes, answers and streams are those of production, and so
are all its own tools and resources. The fixtures stand in the same catalogue, so listing, scopes and headers are what
every tool gets; only what they answer (images, questions to the client) comes from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp_types import SubscriptionsListenRequestParams
from pydantic import BaseModel
from starlette.applications import Starlette

from db.scopes import Scope
from server.mcp.asking import Asking
from server.mcp.context import Checked, Context
from server.mcp.exchange import Exchange
from server.mcp.results import COMPLETE
from tests.conformance.fixture_results import (
    NO_ARGUMENTS,
    PROMPTS,
    RESOURCES,
    SCHEMAS,
    TEMPLATE,
    Result,
    asks,
    elicitation,
    prompt_messages,
    resource_contents,
)
from tests.conformance.fixture_tools import fixture_tools, responses
from tools.catalog import CATALOG, Catalog, visible
from tools.contract import Caller, ToolSpec, tool

Handler = Callable[[Context, Any], Awaitable[Any]]


class Anything(BaseModel):
    """Any object."""


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True)
async def fixture(call: Caller) -> Anything:
    """A fixture of the conformance suite."""
    return Anything()


def _spec(name: str) -> ToolSpec:
    schema = SCHEMAS.get(name, NO_ARGUMENTS)
    return replace(fixture, name=name, title=name, input_schema=schema, output_schema={"type": "object"})


def profile_catalog() -> Catalog:
    """Production's tools and resources, and the fixtures after them."""
    names = fixture_tools(InMemorySubscriptionBus())
    return Catalog((*CATALOG.tools, *(_spec(name) for name in names)), CATALOG.resources, CATALOG.prompts)


def mount(app: Starlette, catalog: Catalog, asking: Asking) -> None:
    """Put the fixtures on the MCP server of ``app``, which was made over ``catalog``. ``asking`` is production's: it
    seals and opens the state of the fixtures that ask back as it does for tools that need a person's approval."""
    exchange = app.state.mcp_app.lanes[-1]
    assert isinstance(exchange, Exchange)
    server = exchange.server
    bus = InMemorySubscriptionBus()
    _mount_tools(server, catalog, asking, bus)
    _mount_resources(server)
    _mount_prompts(server, asking)
    _mount_completion(server)
    server.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, ListenHandler(bus))
    for method in ("logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        server.add_request_handler(method, Checked, _nothing)


def _production(server: Server[Any], method: str) -> Handler:
    entry = server.get_request_handler(method)
    assert entry is not None, method
    return entry.handler


def _mount_tools(server: Server[Any], catalog: Catalog, asking: Asking, bus: InMemorySubscriptionBus) -> None:
    fixtures = fixture_tools(bus)
    production = _production(server, "tools/call")

    async def call_tool(ctx: Context, checked: Checked) -> Any:
        params = ctx.params or {}
        called, spec = fixtures.get(params["name"]), catalog.tool(params["name"])
        if called is None or spec is None or ctx.request is None or not visible(spec, ctx.request.principal):
            return await production(ctx, checked)
        return await asking.sealed(ctx, lambda opened, _answer: called(opened, params.get("arguments") or {}))

    server.add_request_handler("tools/call", Checked, call_tool)


def _mount_resources(server: Server[Any]) -> None:
    listed, templates, read = (
        _production(server, f"resources/{method}") for method in ("list", "templates/list", "read")
    )

    async def list_resources(ctx: Context, checked: Checked) -> Any:
        page = await listed(ctx, checked)
        shown = [
            {"uri": uri, "name": uri.removeprefix("test://"), "description": "A fixture.", "mimeType": held["mimeType"]}
            for uri, held in RESOURCES.items()
        ]
        return {**page, "resources": [*page["resources"], *shown]}

    async def list_templates(ctx: Context, checked: Checked) -> Any:
        page = await templates(ctx, checked)
        shown = {"uriTemplate": TEMPLATE, "name": "template", "mimeType": "application/json"}
        return {**page, "resourceTemplates": [*page["resourceTemplates"], shown]}

    async def read_resource(ctx: Context, checked: Checked) -> Any:
        held = resource_contents((ctx.params or {})["uri"])
        return await read(ctx, checked) if held is None else {"resultType": COMPLETE, "contents": [held]}

    server.add_request_handler("resources/list", Checked, list_resources)
    server.add_request_handler("resources/templates/list", Checked, list_templates)
    server.add_request_handler("resources/read", Checked, read_resource)


def _mount_prompts(server: Server[Any], asking: Asking) -> None:
    listed, got = _production(server, "prompts/list"), _production(server, "prompts/get")

    async def list_prompts(ctx: Context, checked: Checked) -> Any:
        page = await listed(ctx, checked)
        shown = [{"name": name, **about} for name, about in PROMPTS.items()]
        return {**page, "prompts": [*page["prompts"], *shown]}

    async def get_prompt(ctx: Context, checked: Checked) -> Any:
        params = ctx.params or {}
        name = params["name"]
        if name not in PROMPTS:
            return await got(ctx, checked)

        async def fill(opened: Context, _answer: object) -> Result:
            if name == "test_input_required_result_prompt" and responses(opened, "user_context") is None:
                return asks(user_context=elicitation("What context should the prompt use?", context="string"))
            return {"resultType": COMPLETE, "messages": prompt_messages(name, params.get("arguments") or {})}

        return await asking.sealed(ctx, fill)

    server.add_request_handler("prompts/list", Checked, list_prompts)
    server.add_request_handler("prompts/get", Checked, get_prompt)


async def _nothing(ctx: Context, checked: Checked) -> Result:
    return {}


def _mount_completion(server: Server[Any]) -> None:
    production = _production(server, "completion/complete")

    async def complete(ctx: Context, checked: Checked) -> Any:
        if (ctx.params or {})["ref"].get("name") not in PROMPTS:
            return await production(ctx, checked)
        return {"resultType": COMPLETE, "completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}}

    server.add_request_handler("completion/complete", Checked, complete)
