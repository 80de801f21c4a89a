"""Errors teach: an agent that follows nothing but what an error says to programs mends nearly every mistake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from statistics import mean
from typing import Any, cast
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from db.credentials import Authenticator
from db.database import Database
from db.errors import Details
from tests.conftest import House, Owner, Tenant
from tests.server.edge_services import EdgeServices, edge_app
from tests.teaching.mistakes import NAMES, Mistake, World, drawn
from tests.teaching.repair import ROUNDS, Agent, Outcome, Request
from tools.catalog import CATALOG
from tools.dispatch import Dispatch

DETAILS = set(Details.__annotations__)
VERSION = "2026-07-28"
CLIENT = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
Answer = tuple[dict[str, Any] | None, dict[str, Any] | None]


class Wire:
    """One connection: what it sends and how it reads answers, in either era."""

    def __init__(self, http: httpx2.AsyncClient, token: str, query: str, *, modern: bool) -> None:
        self.http = http
        self.token = token
        self.query = query
        self.modern = modern
        self.ids = count(1)

    async def send(self, request: Request) -> Answer:
        place = "uri" if request.method == "resources/read" else "name"
        params: dict[str, Any] = {place: request.name, "_meta": dict(CLIENT) if self.modern else {}}
        if place == "name":
            params["arguments"] = request.arguments
        if request.key:
            params["_meta"]["innkeeper/idempotency_key"] = request.key
        return self._read(await self._post(request.method, params, request.name))

    async def tools(self) -> dict[str, dict[str, Any]]:
        answer = await self._post("tools/list", {"_meta": CLIENT} if self.modern else {}, None)
        return {tool["name"]: tool["inputSchema"] for tool in answer.json()["result"]["tools"]}

    async def _post(self, method: str, params: dict[str, Any], name: str | None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json, text/event-stream"}
        if self.modern:
            headers |= {"mcp-protocol-version": VERSION, "mcp-method": method}
            headers |= {"mcp-name": name} if name else {}
        body = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params}
        return await self.http.post(f"/mcp{self.query}", json=body, headers=headers)

    def _read(self, answer: httpx2.Response) -> Answer:
        reply = answer.json()
        if "result" not in reply:
            told = reply.get("error", {}).get("data") or (reply if "hint" in reply else {"code": "untold"})
            return None, told
        result = reply["result"]
        if result.get("isError"):
            return None, result["_meta"]["innkeeper/error"]
        return result.get("structuredContent", result), None


@pytest_asyncio.fixture
async def http(
    database: Database, authenticator: Authenticator, dispatch: Dispatch
) -> AsyncIterator[httpx2.AsyncClient]:
    services = EdgeServices(CATALOG, dispatch, cast("Any", authenticator), cast("Any", database))
    transport = httpx2.ASGITransport(app=edge_app(services))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30) as http:
        yield http


@pytest.mark.promise("MCP-09")
@pytest.mark.usefixtures("unasked")
async def test_an_agent_that_follows_only_the_hints_repairs_nearly_all_of_two_hundred_mistakes(
    http: httpx2.AsyncClient, house: House, tenant: Tenant, owner: Owner
) -> None:
    world = await made(http, house, tenant, owner)
    failed: list[str] = []
    spent: Counter[int] = Counter()
    for number, mistake in enumerate(drawn(world)):
        await put_back(owner)
        wire = Wire(http, world.keys[mistake.key], mistake.query, modern=number % 2 == 1)
        outcome = await Agent(wire.send, await wire.tools()).carry_out(mistake.request, mistake.wish)
        assert outcome.requests <= ROUNDS
        spent[outcome.requests] += 1
        if not mended(world, mistake, outcome):
            failed.append(f"{mistake.kind}: {mistake.request} -> {outcome}"[:700])
    print(f"{spent.total() - len(failed)} of {spent.total()} repaired, requests needed: {dict(sorted(spent.items()))}")
    assert spent.total() == 200
    assert len(failed) <= 10, "\n".join(failed)


@pytest.mark.promise("MCP-09")
@pytest.mark.usefixtures("unasked")
async def test_each_of_the_mistakes_is_refused_in_words_that_say_what_the_details_say(
    http: httpx2.AsyncClient, house: House, tenant: Tenant, owner: Owner
) -> None:
    world = await made(http, house, tenant, owner)
    blind = 0
    words: list[int] = []
    facts: list[int] = []
    for number, mistake in enumerate(drawn(world)):
        await put_back(owner)
        wire = Wire(http, world.keys[mistake.key], mistake.query, modern=number % 2 == 1)
        answer, error = await wire.send(mistake.request)
        assert answer is None, f"{mistake.kind} {mistake.request} is no mistake"
        assert error is not None
        assert {"hint", "retryable"} <= error.keys(), mistake
        named = [error.get("next_tool", ""), error.get("did_you_mean", ""), error.get("ask", {}).get("scope", "")]
        named += error.get("uri_templates", [])
        assert all(name in error["hint"] for name in named), (mistake, error)
        words.append(len(f"{error.get('message', '')} {error['hint']}".encode()))
        facts.append(len(json.dumps({name: error[name] for name in error.keys() & DETAILS}).encode()))
        blind += not error.keys() - {"code", "message", "hint", "retryable"}
    assert blind == 0, "an error says nothing to programs"
    print(
        f"bytes of an error: {mean(words):.0f} in words, {max(words)} at most;"
        f" {mean(facts):.0f} and {max(facts)} of facts"
    )
    assert max(words) < 1_000
    assert max(facts) < 1_000


def mended(world: World, mistake: Mistake, outcome: Outcome) -> bool:
    if mistake.asks is not None:
        asked = outcome.asked or {}
        return asked.keys() == mistake.asks.keys() and all(
            str(asked[name]) == str(value) or (name == "approval" and value in asked[name])
            for name, value in mistake.asks.items()
        )
    if outcome.answer is None:
        return False
    return mistake.about is None or world.projects[mistake.about] in json.dumps(
        {name: outcome.answer.get(name) for name in ("id", "contents")}
    )


async def made(http: httpx2.AsyncClient, house: House, tenant: Tenant, owner: Owner) -> World:
    wire = Wire(http, tenant.token, "", modern=False)
    projects = {}
    for name in NAMES:
        answer, _error = await wire.send(Request("tools/call", "create_project", {"name": name}))
        assert answer is not None
        projects[name] = answer["id"]
    await owner.execute(
        "UPDATE projects SET name = 'Dune', approval_policy = 'always' WHERE id = $1", tenant.project_id
    )
    await owner.execute("UPDATE projects SET instructions = repeat('old ', 3000) WHERE name = 'Atlas'")
    answer, _error = await wire.send(Request("tools/call", "get_project", {"project_id": projects["Atlas"]}))
    assert answer is not None
    projects["Dune"] = str(tenant.project_id)
    user = tenant.user_id
    viewer = await house.tenant("viewer")
    await owner.execute(
        "INSERT INTO project_members (user_id, project_id, role)"
        " SELECT $1, id, 'viewer' FROM projects WHERE name = ANY($2)",
        viewer.user_id,
        list(NAMES),
    )
    keys = {
        "all": tenant.token,
        "viewer": viewer.token,
        "reads": await house.key(user, scopes=["projects:read", "runs:read"]),
        "runs": await house.key(user, scopes=["runs:read"]),
        "only_reads": await house.key(user, read_only=True),
        "bound": await house.key(user, project_id=UUID(projects["Atlas"])),
    }
    made, _error = await wire.send(
        Request("tools/call", "create_upload", {"project_id": projects["Atlas"], "path": "there.txt", "size": 0})
    )
    assert made is not None
    await owner.execute("UPDATE files SET status = 'ready', expires_at = NULL")
    await owner.execute("INSERT INTO project_storage (project_id, quota) VALUES ($1, 10)", UUID(projects["Birch"]))
    world = World(projects, keys, answer["next_cursor"], made["id"])
    await wire.send(Request("tools/call", "create_project", {"name": "First"}, world.used_key))
    return world


async def put_back(owner: Owner) -> None:
    """The world as it was: what an earlier mistake led to must not decide a later one."""
    await owner.execute("DELETE FROM projects WHERE name <> ALL($1)", [*NAMES, "Dune", "viewer's project"])
    await owner.execute("DELETE FROM files WHERE path <> 'there.txt'")
    await owner.execute("UPDATE projects SET approval_policy = 'never' WHERE name <> 'Dune'")
    await owner.execute("UPDATE projects SET instructions = repeat('new ', 3000) WHERE name = 'Atlas'")
