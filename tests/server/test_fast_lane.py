"""The fast lane and the lane of the SDK give the same answers: to a recorded corpus, and to what nobody thought of."""

from __future__ import annotations

import base64
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from db.credentials import Authenticator
from server.mcp.fast_lane import FastLane
from server.mcp.inbound import Answer, Inbound
from tests.conftest import Tenant
from tests.server.edge_services import EdgeServices, edge_app, edge_services, principal
from tests.server.lanes_corpus import ENVELOPE, PROJECT, Sent, call, everything, message, recorded, sent
from tools.catalog import CATALOG
from tools.dispatch import Dispatch

UNIQUE = re.compile(rb"untrusted-[0-9a-f]{8}|request [0-9a-f]{16}-[0-9a-f]+|\"request_id\": ?\"[^\"]*\"")
"""What differs between two answers to the same request, whoever gives them."""
OF_THE_DOOR = (b"x-request-id", b"content-length")
MUTATIONS = 3000
NEW = ("_meta", "task", "cursor", "more", "progressToken")


@dataclass
class Got:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: Any
    fast: bool


class Replay:
    """The same application twice, over the same services: with both lanes, and with the SDK's alone."""

    def __init__(self, services: EdgeServices | None = None) -> None:
        services = services or edge_services()
        if hasattr(services.authenticator, "tokens"):
            services.authenticator.tokens["bound"] = principal(project_id=UUID(PROJECT))
        self._both, self._sdk = edge_app(services), edge_app(services)
        self._sdk.state.mcp_app.lanes = self._sdk.state.mcp_app.lanes[-1:]
        self._fast = 0
        lane = self._both.state.mcp_app.lanes[0]
        assert isinstance(lane, FastLane)
        self._both.state.mcp_app.lanes = (self, *self._both.state.mcp_app.lanes[1:])
        self._lane = lane

    async def answer(self, inbound: Inbound) -> Answer | None:
        answer = await self._lane.answer(inbound)
        self._fast += answer is not None
        return answer

    async def with_fast_lane(self, one: Sent) -> Got:
        before = self._fast
        got = await _answer(self._both, one)
        return replace(got, fast=self._fast > before)

    async def with_sdk(self, one: Sent) -> Got:
        return await _answer(self._sdk, one)

    async def agree(self, one: Sent) -> Got:
        """Ask both; what the fast lane's application said."""
        ours, theirs = await self.with_fast_lane(one), await self.with_sdk(one)
        assert replace(ours, fast=False) == theirs, (one.name, one.headers, one.content)
        return ours


async def _answer(app: Starlette, one: Sent) -> Got:
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/mcp", "raw_path": b"/mcp",
        "query_string": one.query.encode(), "root_path": "", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in one.headers],
    }  # fmt: skip
    said: list[Message] = []
    heard: list[Message] = [{"type": "http.request", "body": one.content, "more_body": False}]

    async def receive() -> Message:
        return heard.pop() if heard else {"type": "http.disconnect"}

    async def send(one: Message) -> None:
        said.append(one)

    await app(scope, receive, send)
    headers = sorted((name, value) for name, value in said[0]["headers"] if name not in OF_THE_DOOR)
    content = UNIQUE.sub(b"", b"".join(one.get("body", b"") for one in said[1:]))
    try:
        body = json.loads(content)
    except ValueError:
        body = content
    return Got(said[0]["status"], headers, body, fast=False)


def test_the_corpus_is_what_its_makings_make() -> None:
    assert [one.name for one in recorded()] == [one.name for one in everything()]
    assert [one.body for one in recorded()] == [one.body for one in everything()]


@pytest.mark.promise("MCP-20")
async def test_a_recorded_corpus_gets_the_same_answers_from_both_lanes_also_from_memory() -> None:
    corpus, replay = recorded(), Replay()
    assert len(corpus) >= 300
    for _ in range(2):
        for one in corpus:
            got = await replay.agree(one)
            assert got.fast == one.fast, one.name


@pytest.mark.promise("MCP-20")
def test_the_corpus_takes_both_lanes_often_in_both_eras() -> None:
    taken = Counter((one.fast, ("mcp-protocol-version", "2026-07-28") in one.headers) for one in recorded())
    assert all(taken[fast, modern] >= 100 for fast in (True, False) for modern in (True, False)), taken


@pytest.mark.promise("MCP-20")
async def test_seeded_mutations_of_good_requests_get_the_same_answers_from_both_lanes() -> None:
    good = [one for one in recorded() if one.fast]
    chance, replay, fast = random.Random(20), Replay(), 0
    for number in range(MUTATIONS):
        one = replace(chance.choice(good), name=f"mutation {number}")
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            one = _mutated(one, chance)
        fast += (await replay.agree(one)).fast
    assert MUTATIONS // 20 < fast < MUTATIONS


@pytest.mark.promise("MCP-20")
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_the_same_projects_and_saved_answers_come_from_both_lanes(
    tenant: Tenant, dispatch: Dispatch, authenticator: Authenticator, version: str
) -> None:
    known: Any = authenticator
    replay = Replay(EdgeServices(CATALOG, dispatch, known))

    async def ask(name: str, arguments: dict[str, Any], **headers: Any) -> Got:
        params = call(name, arguments) | ({"_meta": ENVELOPE} if version == "2026-07-28" else {})
        return await replay.agree(sent(name, message(params=params), version=version, token=tenant.token, **headers))

    once = await ask("create_project", {"name": "One"}, idempotency_key="only-once")
    for name, arguments in (
        ("list_projects", {}), ("get_project", {"project_id": str(tenant.project_id)}),
        ("get_project", {"project_id": PROJECT}), ("list_projects", {"limit": 1}), ("list_projects", {"cursor": "x"}),
    ):  # fmt: skip
        assert (await ask(name, arguments)).fast
    assert once.body["result"]["structuredContent"]["name"] == "One"
    assert len((await ask("list_projects", {})).body["result"]["structuredContent"]["projects"]) == 2


ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**64,
    "",
    "x",
    "echo",
    "tools/list",
    [],
    {},
    [1],
    {"a": None},
    "2025-06-18",
)


def _mutated(one: Sent, chance: random.Random) -> Sent:
    if chance.random() < 0.3:
        return replace(one, headers=_other_headers(one.headers, chance))
    content = one.content
    if chance.random() < 0.2:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + bytes([chance.randrange(256)]) + content[place + chance.randrange(2) :]
    else:
        try:
            value = json.loads(content)
        except ValueError:
            return one
        content = json.dumps(_other(value, chance), ensure_ascii=chance.random() < 0.5).encode()
    headers = [(name, str(len(content)) if name == "content-length" else value) for name, value in one.headers]
    return replace(one, body=base64.b64encode(content).decode(), headers=headers)


def _other(value: Any, chance: random.Random) -> Any:
    """The JSON value with something in it replaced, left out, or put in."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        how = chance.random()
        if how < 0.2:
            return {name: one for name, one in value.items() if name != key}
        if how < 0.3:
            return {
                **value,
                chance.choice((*value, *NEW)): chance.choice(ODD),
            }
        return {**value, key: _other(value[key], chance)}
    return chance.choice(ODD)


def _other_headers(headers: list[tuple[str, str]], chance: random.Random) -> list[tuple[str, str]]:
    place = chance.randrange(len(headers))
    name, value = headers[place]
    changed = chance.choice(
        ([], [(name, value)] * 2, [(name, value + "x")], [(name, "")], [(name, f" {value} ")], [(name, value.upper())],
         [(name, value), ("mcp-name", "echo")], [(name, value), ("idempotency-key", "k")])
    )  # fmt: skip
    return [*headers[:place], *changed, *headers[place + 1 :]]
