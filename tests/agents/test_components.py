"""Components that an agent shows: offered by the client or named from the registry, streamed, checked, kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import jsonpatch
import pytest

from tests.agents.inn import Inn, Stream, body, orphan, rest, run, running, user
from tests.conftest import House, Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn
from tests.tools.shelf import item
from tools.dispatch import Dispatch
from tools.ports import Services

pytestmark = pytest.mark.promise("RUN-07")

WEATHER: dict[str, Any] = {
    "name": "Weather",
    "description": "The weather of a place.",
    "propsSchema": {
        "type": "object",
        "properties": {"place": {"type": "string"}, "degrees": {"type": "number"}},
        "required": ["place", "degrees"],
        "additionalProperties": False,
    },
    "stateSchema": {"type": "object", "properties": {"open": {"type": "boolean"}}},
}


def offering(*components: dict[str, Any]) -> dict[str, Any]:
    return {"forwardedProps": {"innkeeper": {"components": list(components or (WEATHER,))}}}


def weather(place: str = "Paris", degrees: Any = 21) -> ToolCall:
    return ToolCall("show_component_Weather", {"place": place, "degrees": degrees})


def shown(stream: Stream) -> dict[str, dict[str, Any]]:
    """The components as a client has them in the end, by their ids."""
    found: dict[str, dict[str, Any]] = {}
    for event in stream.events:
        if event["type"] == "ACTIVITY_SNAPSHOT":
            found[event["messageId"]] = event["content"]
        elif event["type"] == "ACTIVITY_DELTA":
            found[event["messageId"]] = jsonpatch.apply_patch(found[event["messageId"]], event["patch"])
    return found


async def test_a_component_of_the_client_is_a_tool_whose_props_stream_to_it(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    call = weather()
    model.script(Turn("Look: ", call), Turn("There."))
    stream = await run(house_open, tenant.token, body(user("Weather?"), thread="t", **offering()))
    assert stream.last["outcome"] == {"type": "success"}
    [(component_id, content)] = shown(stream).items()
    assert content == {
        "name": "Weather",
        "toolCallId": call.id,
        "status": "done",
        "props": {"place": "Paris", "degrees": 21},
        "streaming": {"place": "done", "degrees": "done"},
        "state": None,
    }
    assert not {kind for kind in stream.types if kind.startswith("TOOL_CALL")}
    asked = model.requests[0]
    [tool] = [tool for tool in asked.body["tools"] if tool["function"]["name"] == "show_component_Weather"]
    assert tool["function"]["parameters"]["required"] == ["place", "degrees"]
    assert "The weather of a place." in tool["function"]["description"]
    [told] = [message["content"] for message in model.requests[1].body["messages"] if message["role"] == "tool"]
    assert told == "The user sees it now."
    assert await owner.fetchval("SELECT count(*) FROM run_steps WHERE name LIKE 'tool:%'") == 1
    stored = [json.loads(row["content"]) for row in await owner.fetch("SELECT content FROM messages ORDER BY position")]
    assert stored[1]["metadata"]["innkeeper"]["components"][component_id]["name"] == "Weather"


async def test_props_are_seen_while_the_model_is_still_writing_them(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    gate = Gate()
    half = ToolCall("show_component_Weather", '{"place": "Par')
    model.script(Turn(half, gate), Turn("Hm."))
    async with running(house_open, tenant.token, body(user("Weather?"), **offering())) as (stream, response):
        chunks = response.aiter_raw()
        while not any(event["type"] == "ACTIVITY_DELTA" for event in stream.events):
            stream.feed(await anext(chunks))
        [content] = shown(stream).values()
        assert content["props"] == {"place": "Par"}
        assert (content["streaming"], content["status"]) == ({"place": "streaming"}, "streaming")
        gate.open()
        await rest(stream, chunks)
    [content] = shown(stream).values()
    assert content["status"] == "invalid"


@pytest.mark.parametrize(
    "wrong", [{"place": "Paris", "degrees": "warm"}, {"place": "Paris"}, '{"place": "Par', "[]"], ids=str
)
async def test_props_that_do_not_fit_are_told_to_the_client_and_to_the_model_which_tries_again(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, wrong: Any
) -> None:
    model.script(Turn(ToolCall("show_component_Weather", wrong)), Turn(weather()), Turn("There."))
    stream = await run(house_open, tenant.token, body(user("Weather?"), **offering()))
    assert stream.last["outcome"] == {"type": "success"}
    first, second = shown(stream).values()
    assert first["status"] == "invalid"
    assert first["error"]
    assert (second["status"], second["props"]) == ("done", {"place": "Paris", "degrees": 21})
    [told] = [message["content"] for message in model.requests[1].body["messages"] if message["role"] == "tool"]
    assert first["error"][:40] in told


DEEP = '{"a":' * 1100 + "1" + "}" * 1100
MANY = {"list": [{"number": number} for number in range(3000)]}
NONE_BUT_THE_LAST = [*({"const": number} for number in range(1000)), {"type": "object"}]
OVER_AND_OVER: list[dict[str, Any]] = [{"uniqueItems": True}, {"items": True}, {"not": {"enum": [1, 2]}}]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
EACH_WITH_EACH = {"properties": {"list": {"items": {"anyOf": NONE_BUT_THE_LAST}}}}


async def test_props_that_are_hard_to_read_or_to_check_hold_up_neither_the_run_nor_its_thread(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    def refuse(number: str) -> None:
        raise AssertionError(number)

    over_and_over: list[tuple[dict[str, Any], Any, str, str | None]] = [
        ({"properties": {"list": {"allOf": [one] * 100}}}, MANY, "invalid", "too long") for one in OVER_AND_OVER
    ]
    for schema, props, status, error in (
        *over_and_over,
        ({}, '{"a": 1e999}', "invalid", "none of JSON"),
        ({}, '{"a": NaN}', "invalid", "none of JSON"),
        ({}, DEEP, "invalid", "recursion"),
        ({}, DEEP.replace('{"a":' * 1000, "").replace("}" * 1000, ""), "done", None),
        ({"properties": {"a": {"multipleOf": 0.01}}}, {"a": 10**400}, "invalid", "too large"),
        ({"properties": {"list": {"uniqueItems": True}}}, MANY, "done", None),
        ({"properties": {"list": {"uniqueItems": True}}}, {"list": [{"a": 1}, {"a": 1.0}]}, "invalid", "non-unique"),
        ({"properties": {"list": {"uniqueItems": True}}}, {"list": [1, True]}, "done", None),
        (EACH_WITH_EACH, MANY, "invalid", "too long"),
        # A part that names another dialect does not bring the library's own patterns, which would take for ever.
        ({"properties": {"a": {"$schema": DRAFT_7, "pattern": "^(a+)+$"}}}, {"a": "a" * 40 + "!"}, "invalid", "match"),
    ):
        model.script(Turn(ToolCall("show_component_Any", props)), Turn("There."))
        offered = offering({"name": "Any", "propsSchema": {"type": "object", **schema}})
        asked = body(user("Show me"), thread=str(uuid4()), **offered)
        async with asyncio.timeout(60):
            stream = await run(house_open, tenant.token, asked)
        [content] = shown(stream).values()
        assert (content["status"], stream.text) == (status, "There.")
        assert (error or "") in content.get("error", "")
        if status == "done":
            assert content["props"] == (json.loads(props) if isinstance(props, str) else props)
        again = body(user("And now?"), thread=asked["threadId"])
        again["forwardedProps"] = {"innkeeper": {"messagesSnapshot": "always"}}
        stream = await run(house_open, tenant.token, again)
        assert stream.last["type"] == "RUN_FINISHED"
        for line in stream.raw.decode().splitlines():
            json.loads(line.removeprefix("data: ") if line.startswith("data: ") else "{}", parse_constant=refuse)


async def test_several_components_and_tools_of_one_answer_stream_beside_each_other(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn(weather("Paris"), ToolCall("list_projects", {}), weather("Rome")), Turn("There."))
    stream = await run(house_open, tenant.token, body(user("Weather?"), **offering()))
    assert [one["props"]["place"] for one in shown(stream).values()] == ["Paris", "Rome"]
    assert stream.types.count("TOOL_CALL_RESULT") == 1


@pytest.mark.parametrize(
    ("offered", "what"),
    [
        ("Weather", "must be an object"),
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "A", "propsSchema": []}, "no object"),
        ({"name": "A", "propsSchema": {"type": "string"}}, "not object"),
        ({"name": "A", "propsSchema": {"type": 5}}, "$.type"),
        ({"name": "A", "propsSchema": {"$ref": "https://example.test/s.json"}}, "leads out"),
        ({"name": "A", "propsSchema": {"$ref": "#/$defs/none"}}, "leads nowhere"),
        ({"name": "A", "propsSchema": {"$ref": "#"}}, "circle"),
        ({"name": "A", "propsSchema": {"properties": {"a": {"pattern": "(?=a)"}}}}, "pattern"),
        ({"name": "A", "propsSchema": {"allOf": [{}] * 15_000}}, "too long"),
        ({"name": "A", "stateSchema": {"type": "array"}}, "stateSchema"),
        ({"registry": "no name @1"}, "registry"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_offered_is_refused_with_its_place(
    house_open: Inn, tenant: Tenant, offered: Any, what: str
) -> None:
    refused = await run(house_open, tenant.token, body(user("x"), **offering(offered)))
    assert refused.problem["type"] == "urn:innkeeper:error:component_invalid"
    assert what in refused.problem["detail"]


async def test_all_schemas_of_a_run_share_the_steps_that_checking_them_may_take(
    house_open: Inn, tenant: Tenant
) -> None:
    wide: list[Any] = [{"properties": {f"{number}.{prop}": {} for prop in range(1300)}} for number in range(4)]
    offered = [{"name": f"N{number}", "propsSchema": schema} for number, schema in enumerate(wide)]
    refused = await run(house_open, tenant.token, body(user("x"), **offering(*offered)))
    assert "components.2.propsSchema" in refused.problem["detail"]
    assert "too long" in refused.problem["detail"]


async def test_two_of_one_name_and_names_that_are_taken_are_refused(house_open: Inn, tenant: Tenant) -> None:
    twice = await run(house_open, tenant.token, body(user("x"), **offering(WEATHER, WEATHER)))
    assert twice.problem["type"] == "urn:innkeeper:error:component_invalid"
    tool = {"name": "show_component_Weather", "description": "", "parameters": {}}
    taken = await run(house_open, tenant.token, body(user("x"), tools=[tool], **offering()))
    assert taken.last["code"] == "tool_name_taken"


async def publish(house: Inn, tenant: Tenant, **more: Any) -> None:
    services = Services(house.database, house.engine, store=MemoryStore())
    given = {"project_id": str(tenant.project_id), "item": item("card", title="Card", description="A box."), **more}
    await Dispatch(services).call(tenant.principal, "publish_component", given)


@pytest.mark.parametrize("long", [False, True], ids=["short", "too long for one answer of the registry"])
async def test_a_component_that_is_named_from_the_registry_is_shown_as_it_was_published(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, long: bool
) -> None:
    names = {f"prop_{number}": {"type": "string", "description": "x" * 60} for number in range(200 if long else 1)}
    props = {"type": "object", "properties": names, "required": ["prop_0"]}
    await publish(house_open, tenant, version="1.0.0", props=props, state={"type": "object"})
    await publish(house_open, tenant, version="2.0.0", props={"type": "object", "required": ["other"]})
    model.script(
        Turn(ToolCall("show_component_card", {})),
        Turn(ToolCall("show_component_card", {"prop_0": "a"})),
        Turn("There."),
    )
    stream = await run(house_open, tenant.token, body(user("A card"), **offering({"registry": "card@^1.0"})))
    assert stream.last["outcome"] == {"type": "success"}
    assert [one["status"] for one in shown(stream).values()] == ["invalid", "done"]
    [tool] = [tool for tool in model.requests[0].body["tools"] if tool["function"]["name"] == "show_component_card"]
    assert "A box." in tool["function"]["description"]
    assert len(tool["function"]["parameters"]["properties"]) == len(names)


async def test_what_the_caller_cannot_read_in_the_registry_cannot_be_shown(
    house_open: Inn, house: House, tenant: Tenant, stranger: Tenant, model: ScriptedModel
) -> None:
    await publish(house_open, tenant)
    blind = await house.key(tenant.user_id, project_id=tenant.project_id, scopes=["runs:write", "runs:read"])
    for token, name in ((tenant.token, "none"), (tenant.token, "card@9"), (stranger.token, "card"), (blind, "card")):
        stream = await run(house_open, token, body(user("A card"), **offering({"registry": name})))
        assert stream.last["code"] == "component_unavailable"
    assert model.requests == []


async def test_a_component_that_breaks_off_with_its_process_is_superseded_and_one_that_was_shown_is_not(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    half = ToolCall("show_component_Weather", '{"place": "Ro')
    model.script(Turn(weather("Paris")), Turn(half, Hang()), Turn(weather("Rome")), Turn("There."))
    async with running(house_open, tenant.token, body(user("Weather?"), thread="t", **offering())) as (
        stream,
        response,
    ):
        chunks = response.aiter_raw()
        while stream.types.count("ACTIVITY_SNAPSHOT") < 2:
            stream.feed(await anext(chunks))
        await orphan(owner)
        await rest(stream, chunks)
    assert stream.last["outcome"] == {"type": "success"}
    paris, broken, rome = shown(stream).items()
    assert [content["status"] for _id, content in (paris, broken, rome)] == ["done", "superseded", "done"]
    [superseded] = [event["value"] for event in stream.events if event["type"] == "CUSTOM"]
    assert superseded["messageIds"] == [broken[0]]


async def test_a_run_that_is_cancelled_says_so_of_the_component_it_was_showing(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn(ToolCall("show_component_Weather", '{"place": "Ro'), Hang()), Turn("Again."))
    async with running(house_open, tenant.token, body(user("Weather?"), thread="t", **offering())) as (
        stream,
        response,
    ):
        chunks = response.aiter_raw()
        while "ACTIVITY_DELTA" not in stream.types:
            stream.feed(await anext(chunks))
        run_id = await owner.fetchval("SELECT id FROM runs")
        await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
        await rest(stream, chunks)
    assert stream.last["outcome"] == {"type": "cancelled"}
    [content] = shown(stream).values()
    assert content["status"] == "cancelled"
    again = await run(house_open, tenant.token, body(user("And?"), thread="t"))
    assert again.last["outcome"] == {"type": "success"}
