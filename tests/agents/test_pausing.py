"""Client-side tools pause a run: what is there when its client sees that, and what becomes of it then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.inn import Inn, body, ended, inn, run, running, until, user
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-06")

FRONT: dict[str, Any] = {
    "name": "pick_colour",
    "description": "Ask the user for a colour.",
    "parameters": {"type": "object", "properties": {"of": {"type": "string"}}},
}


def result(call: ToolCall, content: str) -> dict[str, Any]:
    return {"id": f"result of {call.id}", "role": "tool", "toolCallId": call.id, "content": content}


def answered(model: ScriptedModel) -> dict[str, str]:
    messages = model.requests[-1].body["messages"]
    return {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}


async def test_a_pause_is_committed_before_its_client_sees_it(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    calls = [ToolCall("pick_colour", {"of": of}) for of in ("door", "wall")]
    model.script(Turn("Which? ", *calls))
    asked = body(user("Paint it"), thread="t", tools=[FRONT])
    async with running(house_open, tenant.token, asked) as (stream, response):
        await until(stream, response.aiter_raw(), "RUN_FINISHED")
        row = await owner.fetchrow("SELECT status, outcome, lease_owner FROM runs")
        stored = await owner.fetch("SELECT content FROM messages ORDER BY position")
    assert row is not None
    assert stream.last["outcome"] == {"type": "success", "pendingToolCallIds": [call.id for call in calls]}
    assert (row["status"], json.loads(row["outcome"]), row["lease_owner"]) == (
        "succeeded",
        stream.last["outcome"],
        None,
    )
    parts = json.loads(stored[-1]["content"])["parts"]
    assert [part["tool_call_id"] for part in parts if part["part_kind"] == "tool-call"] == [call.id for call in calls]


@pytest.mark.parametrize("kind", ["TOOL_CALL_END", "RUN_FINISHED"])
async def test_a_client_that_hangs_up_at_the_pause_cancels_nothing(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, kind: str
) -> None:
    """As Tambo's client does. One that hangs up earlier cancels only if it asked for that."""
    call = ToolCall("pick_colour", {"of": "door"})
    model.script(Turn(call), Turn("Red."))
    wish = {} if kind == "TOOL_CALL_END" else {"innkeeper": {"onDisconnect": "cancel"}}
    asked = body(user("Paint it"), thread="t", run="r", tools=[FRONT], forwardedProps=wish)
    async with running(house_open, tenant.token, asked) as (stream, response):
        await until(stream, response.aiter_raw(), kind)
    assert await ended(owner, "r") == "succeeded"
    assert await owner.fetchval("SELECT cancel_requested_at FROM runs") is None
    onward = await run(house_open, tenant.token, body(result(call, "red"), thread="t", tools=[FRONT]))
    assert onward.text == "Red."
    assert answered(model) == {call.id: "red"}


async def test_a_pause_survives_the_restart_of_the_server_and_the_refresh_of_the_client(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel
) -> None:
    calls = [ToolCall("pick_colour", {"of": of}) for of in ("door", "wall")]
    model.script(Turn("Which? ", *calls), Turn("Done."))
    async with inn(urls, model_url=model.base_url) as first:
        paused = await run(first, tenant.token, body(user("Paint it"), thread="t", tools=[FRONT]))
    run_id = paused.headers["innkeeper-run-id"]
    async with inn(urls, model_url=model.base_url) as second:
        found = await second.client.get(
            f"{second.url}/runs/{run_id}", headers={"authorization": f"Bearer {tenant.token}"}
        )
        pending = found.json()["outcome"]["pendingToolCallIds"]
        assert pending == [call.id for call in calls]
        results = [result(call, call.arguments["of"]) for call in calls]  # type: ignore[index]  # these are mappings
        onward = await run(second, tenant.token, body(*results, thread="t", tools=[FRONT]))
    assert onward.last["outcome"] == {"type": "success"}
    assert answered(model) == {calls[0].id: "door", calls[1].id: "wall"}
