"""Tools that take long: progress on a stream, and what becomes of the work when its reader leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel
from starlette.types import Message

from agents.house_mcp import HouseMCP
from db.errors import invalid, unauthenticated
from db.principal import Principal
from db.scopes import Scope
from server.mcp import streaming
from server.mcp.exchange import refusal_of
from server.mcp.inbound import Answer
from server.mcp.streaming import MAX_WAITING, EventStream, Say
from tests.conftest import Owner, Tenant
from tests.server.edge_services import EdgeServices, KnownTokens, client_of, edge_app
from tests.server.in_process import GrantTransport
from tests.server.long_work import LongWork
from tools.catalog import Catalog
from tools.contract import Caller, ToolSpec, tool
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("MCP-08")

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "progressToken": "t",
}


class Told(BaseModel):
    told: str


@dataclass
class Workshop(LongWork):
    """The long tools of a test."""

    done: asyncio.Event = field(default_factory=asyncio.Event)

    def tools(self) -> tuple[ToolSpec, ...]:
        @tool(
            Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True
        )
        async def read_much(call: Caller) -> Told:
            """Read for a long time."""
            await call.progress(1, 3, "began")
            await call.progress(1, 3, "said the same again")
            await self.pause()
            await call.progress(3, 3, "read")
            self.done.set()
            return Told(told="much")

        @tool(
            Scope.projects_write,
            read_only=False,
            destructive=False,
            idempotent=False,
            open_world=False,
            takes_long=True,
        )
        async def write_much(call: Caller) -> Told:
            """Write for a long time."""
            await call.progress(1)
            await self.pause()
            async with call.transaction() as connection:
                await connection.execute(
                    "INSERT INTO projects (id, name, created_by) VALUES (gen_random_uuid(), 'long', $1)",
                    call.principal.user_id,
                )
            for step in range(2, 2 * MAX_WAITING):
                await call.progress(step)
            self.done.set()
            return Told(told="written")

        @tool(
            Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True
        )
        async def refuse(call: Caller) -> Told:
            """Refuse at once."""
            raise invalid("Not like this.", "Do it otherwise.")

        return read_much, write_much, refuse


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def house_services(workshop: Workshop, services: Services, tenant: Tenant) -> EdgeServices:
    catalog = Catalog(workshop.tools())
    return EdgeServices(catalog, Dispatch(services, catalog), KnownTokens({"key": tenant.principal}))


@pytest_asyncio.fixture
async def http(house_services: EdgeServices) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(edge_app(house_services), "key") as client:
        yield client


def call(name: str, era: str = MODERN, key: str | None = None) -> dict[str, Any]:
    meta: dict[str, Any] = {**META} if era == MODERN else {"progressToken": "t"}
    if key is not None:
        meta["innkeeper/idempotency_key"] = key
    headers = {"mcp-protocol-version": era}
    if era == MODERN:
        headers |= {"mcp-method": "tools/call", "mcp-name": name}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "_meta": meta}}
    return {"json": message, "headers": headers}


async def events(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


ERAS = pytest.mark.parametrize("era", [HANDSHAKE, MODERN])


@ERAS
async def test_progress_arrives_while_the_work_goes_on_and_the_reply_comes_last(
    http: httpx2.AsyncClient, workshop: Workshop, era: str
) -> None:
    async with http.stream("POST", "/mcp", **call("read_much", era)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        said = events(response)
        assert (await anext(said))["params"] == {
            "progressToken": "t", "progress": 1, "total": 3, "message": "began"
        }  # fmt: skip
        assert not workshop.done.is_set()
        workshop.go_on.set()
        rest = [event async for event in said]
    assert [event.get("method") for event in rest] == ["notifications/progress", None]
    assert rest[-1]["id"] == 7
    assert rest[-1]["result"]["structuredContent"] == {"told": "much"}


@ERAS
async def test_a_reader_that_leaves_cancels_a_read(http: httpx2.AsyncClient, workshop: Workshop, era: str) -> None:
    async with http.stream("POST", "/mcp", **call("read_much", era)) as response:
        await anext(events(response))
    async with asyncio.timeout(60):
        await workshop.cancelled.wait()
    assert not workshop.done.is_set()


@ERAS
async def test_a_write_goes_on_without_its_reader_and_its_answer_is_fetched_by_the_key(
    http: httpx2.AsyncClient, workshop: Workshop, owner: Owner, era: str
) -> None:
    async with http.stream("POST", "/mcp", **call("write_much", era, "k")) as response:
        await anext(events(response))
    workshop.go_on.set()
    async with asyncio.timeout(60):
        await workshop.done.wait()
    again = await http.post("/mcp", **call("write_much", era, "k"))
    answer = again.json() if "json" in again.headers["content-type"] else [e async for e in events(again)][-1]
    assert answer["result"]["structuredContent"] == {"told": "written"}
    assert workshop.starts == 1
    assert not workshop.cancelled.is_set()
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'long'") == 1


async def test_a_client_without_streams_gets_one_json_body(http: httpx2.AsyncClient, workshop: Workshop) -> None:
    workshop.go_on.set()
    request = call("read_much")
    request["headers"]["accept"] = "application/json"
    response = await http.post("/mcp", **request)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["result"]["structuredContent"] == {"told": "much"}


async def test_a_call_that_ends_before_it_says_anything_is_one_json_body(http: httpx2.AsyncClient) -> None:
    response = await http.post("/mcp", **call("refuse"))
    assert response.headers["content-type"] == "application/json"
    assert response.json()["result"]["isError"] is True


async def test_a_client_that_asked_for_no_progress_hears_none(http: httpx2.AsyncClient, workshop: Workshop) -> None:
    request = call("read_much", HANDSHAKE)
    del request["json"]["params"]["_meta"]
    workshop.go_on.set()
    response = await http.post("/mcp", **request)
    assert response.headers["content-type"] == "application/json"


async def test_a_silent_stream_is_kept_alive_by_comments(
    http: httpx2.AsyncClient, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.01)
    request = call("read_much", HANDSHAKE)
    del request["json"]["params"]["_meta"]
    async with http.stream("POST", "/mcp", **request) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": ping"
        workshop.go_on.set()
        assert [line for line in [line async for line in lines] if line.startswith("data:")]


async def test_a_posted_cancellation_is_ignored_because_request_ids_are_not_unique(
    http: httpx2.AsyncClient, workshop: Workshop
) -> None:
    async with http.stream("POST", "/mcp", **call("read_much", HANDSHAKE)) as response:
        said = events(response)
        await anext(said)
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        posted = await http.post("/mcp", json=cancel, headers={"mcp-protocol-version": HANDSHAKE})
        assert posted.status_code == 202
        workshop.go_on.set()
        assert [event async for event in said][-1]["result"]["structuredContent"] == {"told": "much"}


@pytest.mark.parametrize(("name", "goes_on"), [("read_much", False), ("write_much", True)])
async def test_a_cancelled_call_in_the_process_does_with_the_work_what_a_lost_reader_does(
    house_services: EdgeServices, tenant: Tenant, workshop: Workshop, name: str, goes_on: bool
) -> None:
    grant: Principal = tenant.principal
    transport = GrantTransport(edge_app(house_services).state.mcp_app, grant)
    async with httpx2.AsyncClient(transport=transport, base_url="http://inn") as client:
        headers = {"accept": "application/json, text/event-stream"}
        request = call(name)
        calling = asyncio.create_task(client.post("/mcp", json=request["json"], headers=request["headers"] | headers))
        await workshop.begun.wait()
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
    async with asyncio.timeout(60):
        workshop.go_on.set()
        await (workshop.done if goes_on else workshop.cancelled).wait()
    assert workshop.cancelled.is_set() is not goes_on


async def test_an_agent_calls_a_tool_that_takes_long_like_any_other(
    house_services: EdgeServices, tenant: Tenant, workshop: Workshop
) -> None:
    workshop.go_on.set()
    mcp = HouseMCP(edge_app(house_services).state.mcp_app)
    result = await mcp.call_tool(tenant.principal, "read_much", {}, "key")
    assert result["structuredContent"] == {"told": "much"}


async def test_the_work_waits_for_a_slow_reader_and_never_for_one_that_left() -> None:
    said = 0
    leave = asyncio.Event()
    stuck = asyncio.Event()

    async def work(say: Say) -> Answer:
        nonlocal said
        for _ in range(10 * MAX_WAITING):
            await say(b"{}")
            said += 1
            if said == MAX_WAITING:
                stuck.set()
        return Answer(200, b"{}")

    async def receive() -> Message:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await leave.wait()

    stream = EventStream(work, refuse=partial(refusal_of, 1), goes_on=True, notes={})
    sending = asyncio.create_task(stream.send(receive, send))
    await stuck.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert said <= MAX_WAITING + 1
    leave.set()
    await sending
    for _ in range(100):
        await asyncio.sleep(0)
    assert said == 10 * MAX_WAITING


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_stream_that_is_ended_tells_the_error_instead_of_all_that_was_not_sent(goes_on: bool) -> None:
    """What becomes of the work is as when its reader leaves."""
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    sent: list[Message] = []

    async def work(say: Say) -> Answer:
        await say(b'"first"')
        begun.set()
        await go_on.wait()
        await say(b'"a secret"')
        ended.set()
        return Answer(200, b'"a secret"')

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody leaves")

    async def send(message: Message) -> None:
        sent.append(message)

    stream = EventStream(work, refuse=partial(refusal_of, 1), goes_on=goes_on, notes={})
    sending = asyncio.create_task(stream.send(receive, send))
    await begun.wait()
    stream.end(unauthenticated())
    await sending
    go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert ended.is_set() is goes_on
    told = b"".join(message.get("body", b"") for message in sent)
    assert b"unauthenticated" in told
    assert b"a secret" not in told
    assert [message.get("more_body") for message in sent][-1] in (False, None)


async def test_the_end_of_the_process_waits_for_long_work_and_then_cancels_it(
    http: httpx2.AsyncClient, workshop: Workshop, owner: Owner
) -> None:
    async with http.stream("POST", "/mcp", **call("write_much", key="k")) as response:
        await anext(events(response))
    await streaming.finish(0.01)
    assert workshop.cancelled.is_set()
    workshop.cancelled.clear()

    async with http.stream("POST", "/mcp", **call("write_much", key="k")) as response:
        await anext(events(response))
    workshop.go_on.set()
    await streaming.finish(10)
    assert workshop.done.is_set()
    assert not workshop.cancelled.is_set()
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'long'") == 1
