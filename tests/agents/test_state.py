"""What a thread's client and its agent share, and what a client is told of a thread that it does not have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.inn import Inn, Stream, body, orphan, rest, run, running, user
from tests.agents.test_components import offering, shown, weather
from tests.conftest import Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Hang, ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-12")


def of(stream: Stream, kind: str) -> list[dict[str, Any]]:
    return [event for event in stream.events if event["type"] == kind]


def changing(*patch: dict[str, Any]) -> ToolCall:
    return ToolCall("update_state", {"patch": list(patch)})


def instructions(model: ScriptedModel) -> str:
    return str(model.requests[-1].body["messages"][0]["content"])


def tools(model: ScriptedModel) -> set[str]:
    return {tool["function"]["name"] for tool in model.requests[-1].body["tools"]}


async def test_the_model_sees_the_state_and_changes_it_by_patch(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn(changing({"op": "add", "path": "/items/-", "value": "tea"})), Turn("Done."))
    stream = await run(house_open, tenant.token, body(user("Tea"), thread="t", state={"items": ["milk"]}))
    assert stream.types[:2] == ["RUN_STARTED", "STATE_SNAPSHOT"]
    assert of(stream, "STATE_SNAPSHOT")[0]["snapshot"] == {"items": ["milk"]}
    assert of(stream, "STATE_DELTA")[0]["delta"] == [{"op": "add", "path": "/items/-", "value": "tea"}]
    assert '{"items": ["milk", "tea"]}' in instructions(model)
    assert json.loads(await owner.fetchval("SELECT state FROM threads")) == {"items": ["milk", "tea"]}
    later = await run(house_open, tenant.token, body(user("And?"), thread="t", state={}))
    assert of(later, "STATE_SNAPSHOT")[0]["snapshot"] == {"items": ["milk", "tea"]}
    changed = await run(house_open, tenant.token, body(user("And?"), thread="t", state={"items": []}))
    assert of(changed, "STATE_SNAPSHOT")[0]["snapshot"] == {"items": []}


async def test_there_is_no_state_where_the_client_has_none(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    cases: list[dict[str, Any]] = [{}, {"state": {}}, {"state": None}]
    for more in cases:
        stream = await run(house_open, tenant.token, body(user("Hello"), **more))
        assert not of(stream, "STATE_SNAPSHOT")
        assert "update_state" not in tools(model)
        assert "state" not in instructions(model)


async def test_a_patch_that_does_not_apply_is_told_to_the_model_and_changes_nothing(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    wrong = changing({"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/none"})
    model.script(Turn(wrong, ToolCall("update_state", {})), Turn("Hm."))
    stream = await run(house_open, tenant.token, body(user("Go"), state={"b": 1}))
    assert stream.last["outcome"] == {"type": "success"}
    assert not of(stream, "STATE_DELTA")
    told = [message["content"] for message in model.requests[1].body["messages"] if message["role"] == "tool"]
    assert all("patch cannot be applied" in text for text in told)
    assert json.loads(await owner.fetchval("SELECT state FROM threads")) == {"b": 1}


async def test_a_state_that_cannot_be_kept_is_refused(house_open: Inn, tenant: Tenant) -> None:
    large = await run(house_open, tenant.token, body(user("x"), state={"a": "x" * 70_000}))
    assert large.problem["type"] == "urn:innkeeper:error:state_too_large"


async def test_a_tool_of_the_client_of_the_same_name_is_the_clients(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    theirs = {"name": "update_state", "description": "Mine.", "parameters": {"type": "object", "properties": {}}}
    call = ToolCall("update_state", {})
    model.script(Turn(call))
    stream = await run(house_open, tenant.token, body(user("x"), tools=[theirs], state={"a": 1}))
    assert stream.last["outcome"]["pendingToolCallIds"] == [call.id]


@pytest.mark.promise("RUN-05")
async def test_a_change_is_made_once_whatever_becomes_of_the_process(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn(changing({"op": "add", "path": "/items/-", "value": "tea"})), Turn("Hm", Hang()), Turn("Done."))
    asked = body(user("Tea"), thread="t", state={"items": []})
    async with running(house_open, tenant.token, asked) as (stream, response):
        await model.requested(2)
        await orphan(owner)
        await rest(stream, response.aiter_raw())
    assert stream.last["outcome"] == {"type": "success"}
    assert len(of(stream, "STATE_DELTA")) == 1
    assert [event["snapshot"] for event in of(stream, "STATE_SNAPSHOT")] == [{"items": []}, {"items": ["tea"]}]
    assert json.loads(await owner.fetchval("SELECT state FROM threads")) == {"items": ["tea"]}
    assert '{"items": ["tea"]}' in instructions(model)


async def test_a_client_that_has_other_messages_is_told_those_of_the_thread(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("Look: ", ToolCall("list_projects", {})), Turn("One."), Turn(weather()), Turn("There."))
    one, two, three = user("How many?"), user("Weather?"), user("And?")
    first = await run(house_open, tenant.token, body(one, thread="t"))
    assert not of(first, "MESSAGES_SNAPSHOT")
    second = await run(house_open, tenant.token, body(two, thread="t", **offering()))
    assert second.types[1:3] == ["MESSAGES_SNAPSHOT", "MESSAGES_SNAPSHOT"]
    assert second.events[1]["messages"] == [], "its client has messages in another order"
    found = second.events[2]["messages"]
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "assistant", "user"]
    assert (found[0], found[-1]) == (one, two)
    texts = [event["messageId"] for event in first.events if event["type"] == "TEXT_MESSAGE_START"]
    assert [message["id"] for message in found if message["role"] == "assistant"] == texts
    results = [event["messageId"] for event in first.events if event["type"] == "TOOL_CALL_RESULT"]
    assert [message["id"] for message in found if message["role"] == "tool"] == results
    greeting = {"id": "greeting", "role": "assistant", "content": "Welcome."}
    there = [event["messageId"] for event in second.events if event["type"] == "TEXT_MESSAGE_START"]
    [component] = [{"id": name, "role": "activity", "activityType": "innkeeper.component", "content": content}
                   for name, content in shown(second).items()]  # fmt: skip
    known = [greeting, *found, component, {"id": there[0], "role": "assistant", "content": "There."}]
    same = await run(house_open, tenant.token, body(*known, three, thread="t"))
    assert not of(same, "MESSAGES_SNAPSHOT")
    asked = {"innkeeper": {"messagesSnapshot": "always"}}
    known += [three, {"id": same.events[1]["messageId"], "role": "assistant", "content": same.text}]
    always = await run(house_open, tenant.token, body(*known, user("Once more"), thread="t", forwardedProps=asked))
    [snapshot] = of(always, "MESSAGES_SNAPSHOT")
    assert component in snapshot["messages"]
    never = {"innkeeper": {"messagesSnapshot": "never"}}
    quiet = await run(house_open, tenant.token, body(user("Shh"), thread="t", forwardedProps=never))
    assert not of(quiet, "MESSAGES_SNAPSHOT")


async def test_a_component_that_did_not_fit_is_the_same_in_the_stream_and_in_the_thread(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    wrong = ("hello", "[1]", '{"place": "x"', '{"place": "x"} y', '{"place": "x", "n": NaN}', '{"place": "\\ud83d"}')
    odd = (*wrong, '{"place": ' + "[" * 300, '{"__proto__": 1, "place": "x"}', '{"constructor": {"prototype": 1}}')
    calls = [ToolCall("show_component_Weather", text) for text in odd]
    model.script(Turn(weather("Paris", "warm"), *calls), Turn("Hm."), Turn("Yes."))
    first = await run(house_open, tenant.token, body(user("Weather?"), thread="t", **offering()))
    later = await run(house_open, tenant.token, body(user("And?"), thread="t"))
    told = of(later, "MESSAGES_SNAPSHOT")[-1]["messages"]
    assert {one["id"]: one["content"] for one in told if one["role"] == "activity"} == shown(first)
