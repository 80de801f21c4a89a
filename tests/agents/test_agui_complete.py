"""Every kind of run as AG-UI 1.0 has it: two judges that are not ours read each stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ag_ui.core import Event as AGUIEvent
from ag_ui_validate.pytest_plugin import assert_valid_agui
from pydantic import TypeAdapter

from tests.agents.asking import resuming, sending
from tests.agents.inn import Inn, Stream, body, inn, rest, run, speaking, user
from tests.agents.test_components import WEATHER, shown, weather
from tests.agents.test_pausing import FRONT
from tests.agents.test_state import changing
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Hang, Raw, Status, ToolCall, Turn
from tests.server.approving import SENDING

pytestmark = pytest.mark.promise("RUN-12")
EVENT: TypeAdapter[AGUIEvent] = TypeAdapter(AGUIEvent)


@pytest_asyncio.fixture
async def house_open(urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Inn]:
    async with inn(urls, model_url=model.base_url, catalog=SENDING) as opened:
        yield opened


def judged(stream: Stream) -> Stream:
    """The stream, of which neither ``ag_ui.core`` nor ``ag-ui-validate`` has anything to say."""
    assert_valid_agui(stream.events)
    for event in stream.events:
        assert EVENT.validate_json(json.dumps(event)).model_extra == {}
    return stream


async def test_a_conversation_with_everything_in_it_is_valid_to_the_last_event(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    parallel = [ToolCall("list_projects", {}), weather("Paris"), weather("Rome"), changing()]
    pick, send = ToolCall("pick_colour", {}), sending(tenant)
    model.script(
        Turn("Look. ", *parallel),
        Turn(ToolCall("show_component_Weather", '{"place": 1'), pick),
        Turn(send),
        Turn("Sent."),
    )
    everything: dict[str, Any] = {
        "thread": "t",
        "tools": [FRONT],
        "state": {"items": []},
        "forwardedProps": {"innkeeper": {"components": [WEATHER]}},
    }
    paused = judged(await run(house_open, tenant.token, body(user("Go"), **everything)))
    seen = set(paused.types)
    assert paused.last["outcome"]["pendingToolCallIds"] == [pick.id]
    result = {"id": "res", "role": "tool", "toolCallId": pick.id, "content": "red"}
    asked = judged(await run(house_open, tenant.token, body(result, **everything)))
    seen |= set(asked.types)
    [interrupt] = asked.last["outcome"]["interrupts"]
    resumed = judged(await run(house_open, tenant.token, resuming((interrupt, True), **everything)))
    seen |= set(resumed.types)
    assert resumed.last["outcome"] == {"type": "success"}
    assert seen >= {
        *("STATE_SNAPSHOT", "STATE_DELTA", "MESSAGES_SNAPSHOT", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA"),
        *("TEXT_MESSAGE_START", "TOOL_CALL_START", "TOOL_CALL_RESULT", "RUN_FINISHED"),
    }


@pytest.mark.parametrize("provider", ["openai-chat", "openai"])
async def test_each_call_has_an_id_of_its_own_whatever_the_model_calls_it(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, provider: str
) -> None:
    async with inn(urls, model_url=model.base_url, default=f"{provider}:scripted", model_key="k") as house:
        await each_call_has_an_id_of_its_own(house, tenant, model)


async def each_call_has_an_id_of_its_own(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    pick = ToolCall("pick_colour", {}, id="0")
    model.script(
        Turn(ToolCall("list_projects", {}, id="0"), ToolCall("list_projects", {"limit": 1}, id="0")),
        Turn(ToolCall("list_projects", {"limit": 2}, id="0"), pick),
        Turn("Red."),
        Turn(pick),
        Turn("Blue."),
    )
    answered: list[str] = []
    for colour in ("red", "blue"):
        paused = judged(await run(house_open, tenant.token, body(user("Go"), thread="t", tools=[FRONT])))
        begun = [event["toolCallId"] for event in paused.events if event["type"] == "TOOL_CALL_START"]
        [pending] = paused.last["outcome"]["pendingToolCallIds"]
        assert pending == begun[-1]
        answered += begun
        result = {"id": colour, "role": "tool", "toolCallId": pending, "content": colour}
        stream = judged(await run(house_open, tenant.token, body(result, thread="t", tools=[FRONT])))
        assert stream.last["outcome"] == {"type": "success"}
    assert len(set(answered)) == len(answered) == 5
    asked = model.requests[-1].body
    told = {one.get("tool_call_id") or one.get("call_id") for one in asked.get("messages") or asked["input"]}
    assert told - {None} == set(answered)


async def test_calls_whose_arguments_come_by_turns_are_told_apart(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    def pieces(*said: tuple[int, dict[str, Any]]) -> Raw:
        chunks = ({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": at, **one}]}}]} for at, one in said)
        about = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        return Raw(b"".join(b"data: " + json.dumps(about | chunk).encode() + b"\n\n" for chunk in chunks))

    def begun(name: str) -> dict[str, Any]:
        return {"id": name, "type": "function", "function": {"name": name, "arguments": ""}}

    def more(text: str) -> dict[str, Any]:
        return {"function": {"arguments": text}}

    by_turns = pieces(
        (0, begun("list_projects")),
        (1, begun("show_component_Weather")),
        (2, begun("pick_colour")),
        *((0, more('{"limit"')), (1, more('{"place": "Pa')), (2, more('{"of": "'))),
        *((0, more(": 1}")), (1, more('ris", "degrees": 21}')), (2, more('sky"}'))),
    )
    model.script(Turn("Look: ", by_turns, finish="tool_calls"))
    asked = body(user("Go"), tools=[FRONT], forwardedProps={"innkeeper": {"components": [WEATHER]}})
    stream = judged(await run(house_open, tenant.token, asked))
    assert stream.last["outcome"]["pendingToolCallIds"] == ["pick_colour"]
    told = {event["toolCallId"]: "" for event in stream.events if event["type"] == "TOOL_CALL_START"}
    for event in stream.events:
        if event["type"] == "TOOL_CALL_ARGS":
            told[event["toolCallId"]] += event["delta"]
    assert told == {"list_projects": '{"limit": 1}', "pick_colour": '{"of": "sky"}'}
    [content] = shown(stream).values()
    assert (content["status"], content["props"]) == ("done", {"place": "Paris", "degrees": 21})


async def test_ends_that_are_none_of_success_are_valid(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()), Status(401, {"error": {"message": "no"}}))
    async with speaking(house_open, tenant.token, body(user("Hello"), thread="t")) as (stream, chunks):
        run_id = await owner.fetchval("SELECT id FROM runs")
        await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
        await rest(stream, chunks)
    assert judged(stream).last["outcome"] == {"type": "cancelled"}
    failed = judged(await run(house_open, tenant.token, body(user("And?"), thread="t")))
    assert failed.last["type"] == "RUN_ERROR"
