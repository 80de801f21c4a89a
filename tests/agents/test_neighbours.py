"""What one caller sends takes its time beside the event loop, so that the streams of all others go on meanwhile.

Measured is the processor's time that the loop's own thread takes without coming round, of what the process takes in
all: who else is busy on the machine changes neither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agents import patterns
from agents.json_values import Values
from agents.patterns import PatternError
from tests.agents.inn import Inn, body, run, user
from tests.agents.test_components import shown
from tests.conftest import Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-22")


@dataclass
class Held:
    """Seconds of the processor: the longest time for which the loop did nothing else, and what all of it took."""

    longest: float = 0.0
    total: float = 0.0


@asynccontextmanager
async def loop_watched() -> AsyncIterator[Held]:
    held = Held()

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            held.longest, before = max(held.longest, now - before), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    began = time.process_time()
    try:
        yield held
    finally:
        held.total = time.process_time() - began
        await asyncio.sleep(0.002)
        watching.cancel()


def offering(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"forwardedProps": {"innkeeper": {"components": [{"name": "A", "propsSchema": schema, **more}]}}}


async def test_a_schema_is_checked_beside_the_loop(house_open: Inn, tenant: Tenant) -> None:
    await run(house_open, tenant.token, body(user("warm")))
    manifold: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)}
    asked = body(user("hi"), **offering({"$ref": "#/$defs/d0", "$defs": {**manifold, "d20": {}}}))
    async with loop_watched() as held:
        refused = await run(house_open, tenant.token, asked)
    assert "too long" in refused.problem["detail"]
    assert held.longest < held.total / 3


async def test_props_and_changes_of_state_are_checked_beside_the_loop(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    await run(house_open, tenant.token, body(user("warm")))
    show = ToolCall("show_component_A", {"list": [0] * 20_000})
    change = ToolCall("update_state", {"patch": [{"op": "move", "from": "/list/0", "path": "/list/9000"}] * 200})
    schema = {"properties": {"list": {"items": {"type": "integer", "minimum": 0}}}}
    model.script(Turn(show), Turn(change), Turn("Done."))
    asked = body(user("hi"), state={"list": [{"a": number} for number in range(5_000)]}, **offering(schema))
    async with loop_watched() as held:
        stream = await run(house_open, tenant.token, asked)
    assert stream.last["outcome"] == {"type": "success"}
    assert held.longest < held.total / 3


async def test_copies_within_a_state_are_bounded_before_they_are_made(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(
        Turn(ToolCall("update_state", {"patch": [{"op": "copy", "from": "/a", "path": "/b"}] * 200})), Turn(".")
    )
    stream = await run(house_open, tenant.token, body(user("hi"), state={"a": [0] * 9_000}))
    [told] = [message["content"] for message in model.requests[1].body["messages"] if message["role"] == "tool"]
    assert "65536 bytes" in told
    assert "STATE_DELTA" not in stream.types


async def test_an_input_is_bounded_in_its_lists_and_in_what_is_said_of_its_faults(
    house_open: Inn, tenant: Tenant
) -> None:
    for name in ("messages", "tools", "context"):
        refused = await run(house_open, tenant.token, {**body(user("hi")), name: [{}] * 10_001})
        assert refused.problem["detail"].startswith(f"There are 10001 {name};")
    nothing: list[dict[str, Any]] = [{}] * 9_000
    tools = [{"name": "t", "description": "", "parameters": {"enum": [0] * 10_000}}]
    refused = await run(house_open, tenant.token, body(user("hi"), tools=tools))
    assert refused.problem["detail"] == "The tools hold over 10000 JSON values."
    refused = await run(house_open, tenant.token, body(*(user("hi") for _ in range(501))))
    assert "500 parts" in refused.problem["detail"]
    parts = {"id": "m", "role": "user", "content": nothing}
    for wrong in (nothing, [parts]):
        refused = await run(house_open, tenant.token, body(*wrong))
        assert "things of it are wrong" in refused.problem["detail"]


async def test_a_long_thread_is_read_and_prepared_beside_the_loop(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    said = [{"role": role, "content": [{"type": "text", "text": "word " * 20}]} for role in ("user", "assistant")]
    headers = {"authorization": f"Bearer {tenant.token}"}
    begun = await house_open.client.post(
        f"{house_open.url}/v1/threads", json={"initialMessages": said * 1_000}, headers=headers
    )
    thread = begun.json()["id"]
    await run(house_open, tenant.token, body(user("warm")))
    model.script(Turn(ToolCall("list_projects", {})), Turn("Done."))
    async with loop_watched() as held:
        stream = await run(house_open, tenant.token, body(user("And now?"), thread=thread))
    assert stream.last["outcome"] == {"type": "success"}
    sent = model.requests[-1].body["messages"]
    assert 990 <= len(sent) <= 1_010
    assert [one["role"] for one in sent[-3:]] == ["user", "assistant", "tool"]
    assert held.longest < held.total / 3


@pytest.mark.parametrize(
    "heavy",
    [
        r"(\pL{1,50}){1,10}",
        r"([ab]{1,100}c?){1,200}d",
        "a{100000}",
        r"((.{1,100}){1,100}){1,100}",
        r"(?x)\pL # [\n {1000}",
        "(?i-x:a)",
    ],
)
def test_a_pattern_that_is_unfolded_without_measure_is_not_compiled(heavy: str) -> None:
    with pytest.raises(PatternError):
        patterns.compiled(heavy)


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        (r"^[\w.-]{1,255}@\w+\.\w{2,}$", "a.b@example.org", "a b@example.org"),
        (r"^\d{4}-\d{2}-\d{2}$", "2026-01-31", "\uff12\uff10\uff12\uff16-01-31"),
        (r"^\W\D[^\W\d]$", "-xy", "-x1"),
        (r"^.{1,2000}$", "é" * 2000, ""),
        (r"^\p{Lu}\pL*$", "Ägir", "ägir"),
        (r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "01234567-89ab-cdef-0123-456789abcdef", "01234567"),
    ],
)
def test_usual_patterns_match_as_they_do_in_re2(pattern: str, fits: str, not_: str) -> None:
    known = patterns.compiled(pattern)
    assert known.matches(fits)
    assert not known.matches(not_)


def test_a_match_that_would_take_long_is_not_made() -> None:
    with pytest.raises(PatternError):
        patterns.compiled("([ab]{1,100}c?){1,50}d").matches("ab" * 50_000)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_values_are_counted_in_pieces_as_in_one(size: int) -> None:
    text = rb'{"a,[": [0, 1, {"b\"[,": "\\"}, "\\\"[,", ",,,"], "c": "\u0022,"}'
    values = Values()
    for at in range(0, len(text), size):
        values.feed(text[at : at + size])
    assert values.count == 8


async def test_a_piece_that_comes_at_once_is_heard_in_portions(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    await run(house_open, tenant.token, body(user("warm")))
    props = {"list": [{}] * 30_000, "text": "\U0001f600" * 5_000}
    show = ToolCall("show_component_A", props)
    model.script(Turn("x" * 50_000, show), Turn("Done."))
    async with loop_watched() as held:
        stream = await run(house_open, tenant.token, body(user("hi"), **offering({"type": "object"})))
    assert stream.text == "x" * 50_000 + "Done."
    [content] = shown(stream).values()
    assert (content["status"], content["props"]) == ("done", props)
    assert held.longest < held.total / 3


@pytest.mark.parametrize("said", [Turn("x" * (1 << 20), "y"), Turn(*(ToolCall("nothing", {}) for _ in range(257)))])
async def test_an_answer_of_more_than_any_model_says_is_none(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, said: Turn
) -> None:
    model.script(said)
    stream = await run(house_open, tenant.token, body(user("hi")))
    assert stream.last["code"] == "model_bad_response"
