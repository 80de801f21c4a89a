"""What becomes of a run whose process dies or ends: another one goes on from its last finished step."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest

from agents.succession import MOST_EPOCHS
from tests.agents.inn import Inn, body, ended, inn, orphan, rest, run, running, speaking, until, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-05")


async def test_a_run_of_a_dead_process_is_taken_over_and_its_broken_answer_is_superseded(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Last wor", Hang()), Turn("First words."))
    async with speaking(house_open, tenant.token, body(user("Hello"), thread="t", run="r")) as (stream, chunks):
        await orphan(owner)
        async with asyncio.timeout(60):
            await rest(stream, chunks)
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.ids == list(range(1, len(stream.ids) + 1))
    started = [event["messageId"] for event in stream.events if event["type"] == "TEXT_MESSAGE_START"]
    finished = [event["messageId"] for event in stream.events if event["type"] == "TEXT_MESSAGE_END"]
    assert len(started) == 2
    assert finished == started
    [superseded] = [event for event in stream.events if event["type"] == "CUSTOM"]
    assert superseded["name"] == "innkeeper.superseded"
    assert superseded["value"] == {"messageIds": started[:1], "toolCallIds": []}
    again = await run(house_open, tenant.token, body(user("Go on"), thread="t"))
    assert again.last["type"] == "RUN_FINISHED"
    said = str(model.requests[-1].body["messages"])
    assert "First words." in said
    assert "Last wor" not in said


async def test_a_run_goes_on_from_its_last_finished_step_and_repeats_none(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    calls = [ToolCall("create_project", {"name": name}) for name in ("North", "South")]
    model.script(Turn("Two: ", *calls), Turn("Both", Hang()), Turn("Done."))
    async with running(house_open, tenant.token, body(user("Make two"), thread="t", run="r")) as (stream, response):
        chunks = response.aiter_raw()
        while not stream.text.endswith("Both"):
            stream.feed(await anext(chunks))
        await orphan(owner)
        await rest(stream, chunks)
    assert stream.last["outcome"] == {"type": "success"}
    assert len(model.requests) == 3
    assert model.requests[1].body["messages"] == model.requests[2].body["messages"]
    made = await owner.fetch("SELECT name FROM projects WHERE name IN ('North', 'South')")
    assert sorted(row["name"] for row in made) == ["North", "South"]
    assert stream.types.count("TOOL_CALL_START") == stream.types.count("TOOL_CALL_RESULT") == 2
    row = await owner.fetchrow("SELECT requests, tool_calls, lease_epoch FROM runs")
    assert row is not None
    assert tuple(row) == (3, 2, 2), "the answer that was cut off was asked for, too"
    stored = [json.loads(row["content"]) for row in await owner.fetch("SELECT content FROM messages ORDER BY position")]
    assert [message["kind"] for message in stored] == ["request", "response", "request", "response"]
    assert [part["part_kind"] for part in stored[2]["parts"]] == ["tool-return", "tool-return"]


async def test_every_tool_that_a_run_executed_is_in_its_journal_parallel_ones_too(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    first = [ToolCall("list_projects", {}, id=f"call {number}") for number in range(5)]
    first.append(ToolCall("get_project", {"project_id": str(uuid4())}, id="call that fails"))
    again = ToolCall("get_project", {"project_id": str(tenant.project_id)}, id="call 0")
    model.script(Turn(*first), Turn(again), Turn("Done."))
    stream = await run(house_open, tenant.token, body(user("Look")))
    assert stream.last["outcome"] == {"type": "success"}
    *_, second = [event["toolCallId"] for event in stream.events if event["type"] == "TOOL_CALL_START"]
    steps = await owner.fetch("SELECT name, value FROM run_steps")
    assert sorted(row["name"] for row in steps) == [
        "model:1",
        "model:2",
        "model:3",
        *(f"tool:1:call {number}" for number in range(5)),
        "tool:1:call that fails",
        f"tool:2:{second}",
    ]
    values = {row["name"]: json.loads(row["value"]) for row in steps}
    assert all(values.values())
    assert "project_not_found" in str(values["tool:1:call that fails"])


async def test_a_run_ends_at_its_deadline_however_many_processes_had_it(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute("UPDATE agents SET limits = '{\"seconds\": 600}'")
    model.script(Turn("Hm", Hang()), Turn("Hm", Hang()))
    async with speaking(house_open, tenant.token, body(user("Hello"))) as (stream, chunks):
        await orphan(owner)
        await model.requested(2)
        await owner.execute("UPDATE runs SET deadline_at = now()")
        await orphan(owner)
        await rest(stream, chunks)
    assert stream.last["code"] == "run_deadline_exceeded"


async def test_a_run_whose_key_was_revoked_meanwhile_ends_with_one_terminal_event(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    async with speaking(house_open, tenant.token, body(user("Hello"), run="r")):
        await owner.execute("UPDATE credentials SET revoked_at = now()")
        await orphan(owner)
        assert await ended(owner, "r") == "failed"
    events = [json.loads(row["event"]) for row in await owner.fetch("SELECT event FROM run_events ORDER BY seq")]
    assert events[-1]["code"] == "unauthenticated"
    assert [event["type"] for event in events].count("RUN_ERROR") == 1


async def test_a_run_that_takes_each_process_with_it_is_given_up(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    async with speaking(house_open, tenant.token, body(user("Hello"), run="r")) as (stream, chunks):
        await owner.execute("UPDATE runs SET lease_epoch = $1", MOST_EPOCHS)
        await orphan(owner)
        await rest(stream, chunks)
    assert stream.last["code"] == "run_interrupted"
    assert await ended(owner, "r") == "interrupted"


async def test_a_process_that_ends_hands_its_runs_over_at_once(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Here", gate), Turn("There."))
    async with (
        inn(urls, model_url=model.base_url) as other,
        running(house_open, tenant.token, body(user("Hello"), run="r")) as (stream, response),
    ):
        await other.engine.warm()
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        closing = asyncio.create_task(house_open.engine.shutdown(120))
        async with asyncio.timeout(60):
            await model.requested(2)
            await rest(stream, chunks)
            await closing
        gate.open()
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.text == "HereThere."
    assert stream.types.count("RUN_FINISHED") == 1
    assert house_open.engine.live == 0


async def test_a_process_that_ends_alone_lets_its_runs_end_and_the_next_one_goes_on_with_the_others(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Soon", gate, " done."), Turn("Later", Hang()), Turn("Later still."))
    async with (
        inn(urls, model_url=model.base_url) as house,
        speaking(house, tenant.token, body(user("Hello"), run="soon")) as (soon, chunks),
        speaking(house, tenant.token, body(user("Hello"), run="later")),
    ):
        closing = asyncio.create_task(house.engine.shutdown(1.0))
        await asyncio.sleep(0)
        late = await run(house, tenant.token, body(user("Too late")))
        assert late.status == 503
        gate.open()
        await rest(soon, chunks)
        await closing
    assert soon.last["outcome"] == {"type": "success"}
    assert await owner.fetchval("SELECT status FROM runs WHERE external_id = 'later'") == "running"
    async with inn(urls, model_url=model.base_url):
        assert await ended(owner, "later") == "succeeded"


async def test_runs_that_wait_for_a_result_of_the_database_are_not_taken_from_a_living_process(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    """A lease that ran out while the database was away is renewed before anyone looks for orphans."""
    gate = Gate()
    model.script(Turn("Hm", gate, " yes."))
    async with speaking(house_open, tenant.token, body(user("Hello"))) as (stream, chunks):
        await owner.execute("UPDATE runs SET lease_expires_at = now() + interval '1 hour'")

        async def renewed() -> bool:
            left: bool = await owner.fetchval("SELECT lease_expires_at < now() + interval '1 minute' FROM runs")
            return left

        await eventually(renewed)
        gate.open()
        await rest(stream, chunks)
    assert stream.last["outcome"] == {"type": "success"}
    assert len(model.requests) == 1
