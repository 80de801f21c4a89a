"""Who is asked, over every kind of client: nothing that nobody allowed happens, and nothing cannot be allowed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestFormParams, ElicitResult
from starlette.applications import Starlette

from agents.house_mcp import HouseMCP
from db.credentials import Authenticator
from db.database import Database
from db.ids import uuid7
from server.keyring import Keyring
from tests.conftest import House, Owner, Tenant, living_run
from tests.server.approving import SENDING, sending_app, session_of, sign_in
from tests.server.edge_services import served
from tools.decisions import Decisions
from tools.ports import Services

pytestmark = pytest.mark.promise("MCP-06")

MODERN = "2026-07-28"
Call = Callable[..., Awaitable[dict[str, Any]]]
Reply = Callable[[], Awaitable[str]]


@pytest.fixture
def app(database: Database, authenticator: Authenticator, services: Services) -> Starlette:
    return sending_app(database, authenticator, services)


@pytest_asyncio.fixture
async def address(app: Starlette) -> AsyncIterator[str]:
    async with served(app) as (host, port):
        yield f"http://{host}:{port}"


@asynccontextmanager
async def client_at(address: str, token: str, mode: str, reply: Reply | None, seen: list[str]) -> AsyncIterator[Call]:
    """Calls ``send`` with the official client. ``reply``: what the person at it answers; without it, it cannot ask."""

    async def elicit(context: Any, params: Any) -> ElicitResult:
        assert reply is not None
        assert isinstance(params, ElicitRequestFormParams)
        seen.append(params.message)
        return ElicitResult(action=await reply())  # type: ignore[arg-type]  # one of the three

    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=60) as http,
        Client(
            streamable_http_client(f"{address}/mcp", http_client=http),
            mode=mode,
            elicitation_callback=elicit if reply else None,
        ) as client,
    ):

        async def call(**arguments: Any) -> dict[str, Any]:
            result = await client.call_tool("send", arguments)
            return {"isError": result.is_error, "_meta": result.meta, "text": result.content[0].text}  # type: ignore[union-attr]  # text

        yield call


def outcome(result: dict[str, Any]) -> str:
    if not result["isError"]:
        return "done"
    return str(result["_meta"]["innkeeper/error"]["code"])


def question_id(result: dict[str, Any]) -> UUID:
    """Where the page is, as the model reads it."""
    told = result["_meta"]["innkeeper/error"]["approval"]
    text = result.get("text") or result["content"][0]["text"]
    assert told["url"] in text
    found = re.search(r"/approvals/([0-9a-f-]{36})", told["url"])
    assert found
    return UUID(found[1])


async def sent(owner: Owner, tenant: Tenant) -> list[str]:
    text = await owner.fetchval("SELECT instructions FROM projects WHERE id = $1", tenant.project_id)
    return str(text).split(";")[:-1]


async def expire(owner: Owner) -> None:
    await owner.execute("UPDATE approvals SET expires_at = now() - interval '1 second' WHERE state <> 'used'")


CLIENTS = pytest.mark.parametrize("client", ["modern", "handshake", "handshake that could elicit", "run"])
POLICIES = pytest.mark.parametrize("policy", ["always", "when_new"])


@asynccontextmanager
async def without_questions(
    client: str, address: str, app: Starlette, tenant: Tenant, owner: Owner, token: str | None = None
) -> AsyncIterator[Call]:
    """The clients that put no question: they are told the page's address."""
    if client == "run":
        house = HouseMCP(app.state.mcp_app)
        grant = tenant.principal.for_run(await living_run(owner, tenant), depth=0, epoch=1)

        async def call_as_run(**arguments: Any) -> dict[str, Any]:
            return await house.call_tool(grant, "send", arguments, str(uuid7()))

        yield call_as_run
        return

    async def never() -> str:
        raise AssertionError("a handshake client was asked")

    mode = MODERN if client == "modern" else "legacy"
    reply = never if client == "handshake that could elicit" else None
    async with client_at(address, token or tenant.token, mode, reply, []) as call:
        yield call


@CLIENTS
@POLICIES
async def test_a_client_that_cannot_ask_is_told_the_page_and_succeeds_once_it_was_allowed_there(
    app: Starlette,
    address: str,
    services: Services,
    database: Database,
    house: House,
    tenant: Tenant,
    owner: Owner,
    client: str,
    policy: str,
) -> None:
    await owner.execute("UPDATE projects SET approval_policy = $1", policy)
    person = await session_of(database, owner, tenant.user_id)
    decisions = Decisions(services, SENDING)
    project = str(tenant.project_id)
    async with without_questions(client, address, app, tenant, owner) as call:
        waiting = question_id(await call(project_id=project, to="approve"))
        await decisions.decide(person, waiting, allow=True)
        assert outcome(await call(project_id=project, to="approve", text="other arguments")) == "approval_required"
        if client != "run":
            other_token = await house.key(tenant.user_id)
            async with without_questions(client, address, app, tenant, owner, other_token) as other_caller:
                assert outcome(await other_caller(project_id=project, to="approve")) == "approval_required"
        assert outcome(await call(project_id=project, to="approve")) == "done"
        again = outcome(await call(project_id=project, to="approve"))
        assert again == ("approval_required" if policy == "always" else "done")

        denied = question_id(await call(project_id=project, to="deny"))
        await decisions.decide(person, denied, allow=False)
        assert outcome(await call(project_id=project, to="deny")) == "approval_denied"

        ignored = await call(project_id=project, to="cancel")
        assert question_id(await call(project_id=project, to="cancel")) == question_id(ignored)

        late = question_id(await call(project_id=project, to="expired"))
        await decisions.decide(person, late, allow=True)
        await expire(owner)
        anew = question_id(await call(project_id=project, to="expired"))
        assert anew != late
        assert await sent(owner, tenant) == ["approve"] * (1 if policy == "always" else 2)

        for to in ("deny", "cancel", "expired"):
            once_more = await call(project_id=project, to=to)
            await decisions.decide(person, question_id(once_more), allow=True)
            assert outcome(await call(project_id=project, to=to)) == "done"


@POLICIES
async def test_a_client_that_can_ask_puts_the_question_and_goes_on_with_the_answer(
    address: str, services: Services, database: Database, tenant: Tenant, owner: Owner, policy: str
) -> None:
    await owner.execute("UPDATE projects SET approval_policy = $1", policy)
    replies: list[str] = []
    seen: list[str] = []

    async def reply() -> str:
        answer = replies.pop(0)
        if answer == "late":
            await expire(owner)
            return "accept"
        return answer

    project = str(tenant.project_id)
    async with client_at(address, tenant.token, MODERN, reply, seen) as call:
        replies[:] = ["accept"]
        assert outcome(await call(project_id=project, to="approve")) == "done"
        replies[:] = ["accept"] if policy == "always" else []
        assert outcome(await call(project_id=project, to="approve")) == "done"
        assert replies == []

        replies[:] = ["decline"]
        assert outcome(await call(project_id=project, to="deny")) == "approval_denied"
        assert outcome(await call(project_id=project, to="deny")) == "approval_denied"

        replies[:] = ["cancel"]
        closed = await call(project_id=project, to="cancel")
        assert outcome(closed) == "approval_required"

        replies[:] = ["late", "cancel"]
        assert outcome(await call(project_id=project, to="expired")) == "approval_required"
        assert await sent(owner, tenant) == ["approve", "approve"]
        assert all(message.startswith("Allow this? This carries out send") for message in seen)

        person = await session_of(database, owner, tenant.user_id)
        replies[:] = ["cancel"]
        closed = await call(project_id=project, to="cancel")
        await Decisions(services, SENDING).decide(person, question_id(closed), allow=True)
        assert outcome(await call(project_id=project, to="cancel")) == "done"
        replies[:] = ["accept", "accept"]
        assert outcome(await call(project_id=project, to="expired")) == "done"
        assert outcome(await call(project_id=project, to="deny")) == "done"


@pytest.mark.parametrize("client", ["modern that can ask", "modern", "handshake", "run"])
async def test_where_the_project_never_asks_every_client_acts_at_once(
    app: Starlette, address: str, tenant: Tenant, owner: Owner, client: str, unasked: None
) -> None:
    async def nobody() -> str:
        raise AssertionError("a question where none is to be asked")

    if client == "modern that can ask":
        opened = client_at(address, tenant.token, MODERN, nobody, [])
    else:
        opened = without_questions(client, address, app, tenant, owner)
    async with opened as call:
        assert outcome(await call(project_id=str(tenant.project_id), to="x")) == "done"
    assert await sent(owner, tenant) == ["x"]


async def raw(
    http: httpx2.AsyncClient, arguments: dict[str, Any], capabilities: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}} if capabilities is None else capabilities,
    }
    params = {"_meta": meta, "name": "send", "arguments": arguments, **more}
    answer = await http.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        headers={
            "mcp-protocol-version": MODERN,
            "mcp-method": "tools/call",
            "mcp-name": "send",
            "accept": "application/json, text/event-stream",
        },
    )
    return dict(answer.json())


async def test_a_state_is_of_one_caller_and_one_call_and_cannot_be_made_or_changed(
    address: str, house: House, tenant: Tenant, owner: Owner
) -> None:
    other = await house.key(tenant.user_id)
    accepted = {"approval": {"action": "accept", "content": {}}}
    mine = {"project_id": str(tenant.project_id), "to": "mine"}

    def as_key(token: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=address, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=60
        )

    async with as_key(tenant.token) as http, as_key(other) as stranger:
        asked = (await raw(http, mine))["result"]
        assert asked["resultType"] == "input_required"
        [request] = asked["inputRequests"].values()
        assert request["method"] == "elicitation/create"
        state = asked["requestState"]
        assert str(tenant.project_id) not in state

        answered = {"inputResponses": accepted, "requestState": state}
        refusals = [
            await raw(http, mine | {"to": "another"}, **answered),
            await raw(stranger, mine, **answered),
            await raw(http, mine, inputResponses=accepted, requestState=state[:-4] + "AAAA"),
            await raw(http, mine, inputResponses=accepted, requestState=str(uuid7())),
        ]
        assert [refused["error"]["code"] for refused in refusals] == [-32602] * 4
        stateless = (await raw(http, mine, inputResponses=accepted))["result"]
        assert stateless["resultType"] == "input_required"
        misnamed = {"inputResponses": {"another": accepted["approval"]}, "requestState": state}
        assert (await raw(http, mine, **misnamed))["result"]["resultType"] == "input_required"
        assert await sent(owner, tenant) == []

        assert (await raw(http, mine, **answered))["result"]["isError"] is False
        again = (await raw(http, mine, **answered))["result"]
        assert again["resultType"] == "input_required"
    assert await sent(owner, tenant) == ["mine"]


@pytest.mark.promise("GND-03")
async def test_what_was_asked_and_opened_before_a_rotation_counts_until_the_root_is_forgotten(
    database: Database, authenticator: Authenticator, services: Services, owner: Owner, tenant: Tenant
) -> None:
    roots = [b"the root before"]
    app = sending_app(database, authenticator, services, Keyring(read=lambda: tuple(roots)))
    async with served(app) as (host, port):
        address = f"http://{host}:{port}"
        http = httpx2.AsyncClient(
            base_url=address,
            timeout=60,
            headers={"authorization": f"Bearer {tenant.token}", "origin": address},
            follow_redirects=True,
            trust_env=False,
        )
        async with http:
            await sign_in(http, owner, tenant.user_id)
            asked = [
                (await raw(http, {"project_id": str(tenant.project_id), "to": to}))["result"]["requestState"]
                for to in ("kept", "forgotten")
            ]
            page = await http.get("/approvals")
            form = {"csrf": re.findall(r'name="csrf" value="(\w+)"', page.text)[0]}

            roots.insert(0, b"the root in use")
            accepted = {"inputResponses": {"approval": {"action": "accept", "content": {}}}}
            mine = {"project_id": str(tenant.project_id), "to": "kept"}
            assert (await raw(http, mine, requestState=asked[0], **accepted))["result"]["isError"] is False
            del roots[1]
            late = await raw(http, mine | {"to": "forgotten"}, requestState=asked[1], **accepted)
            assert late["error"]["code"] == -32602
            assert (await http.get("/approvals")).status_code == 401
            roots.append(b"the root before")
            assert (await http.get("/approvals")).status_code == 200
            left = await http.post("/sign-out", data=form)
            assert left.history[0].status_code == 303
            assert left.status_code == 401
    assert await sent(owner, tenant) == ["kept"]


@pytest.mark.parametrize(
    ("capabilities", "asks"),
    [
        ({}, False),
        ({"elicitation": {}}, True),
        ({"elicitation": {"form": {}}}, True),
        ({"elicitation": {"form": {}, "url": {}}}, True),
        ({"elicitation": {"url": {}}}, False),
        ({"sampling": {}}, False),
    ],
)
async def test_only_a_client_that_says_it_can_show_a_form_is_asked_to(
    address: str, tenant: Tenant, capabilities: dict[str, Any], asks: bool
) -> None:
    async with httpx2.AsyncClient(
        base_url=address, headers={"authorization": f"Bearer {tenant.token}"}, trust_env=False, timeout=60
    ) as http:
        arguments = {"project_id": str(tenant.project_id), "to": "x"}
        result = (await raw(http, arguments, capabilities))["result"]
    assert result["resultType"] == ("input_required" if asks else "complete")
    if not asks:
        assert outcome(result) == "approval_required"
