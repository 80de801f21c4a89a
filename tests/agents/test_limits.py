"""What a run may use: limits of its agent, loops, and the budgets of its project and its end user."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from db.errors import AppError
from db.ids import uuid7
from tests.agents.inn import Inn, Stream, another_project, body, inn, orphan, rest, run, running, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn

pytestmark = pytest.mark.promise("RUN-09")
LOOK = ("list_projects", {"limit": 1})
OVER = {
    "steps": "2 steps",
    "tokens": "300 tokens",
    "cost_usd": "US$ 0.5",
    "tool_calls": "1 calls of tools, together with the runs it started",
}
PRICES = json.dumps({"scripted": {"input": 1000, "output": 2000}})


def looks(count: int, **more: Any) -> list[Turn]:
    return [Turn(ToolCall(*LOOK), **more) for _ in range(count)]


async def limits(owner: Owner, **given: Any) -> None:
    await owner.execute("UPDATE agents SET limits = $1::jsonb", json.dumps(given))


async def budget(owner: Owner, tenant: Tenant, **given: Any) -> None:
    for name, value in given.items():
        await owner.execute(f"UPDATE projects SET {name} = $2 WHERE id = $1", tenant.project_id, value)


async def month(owner: Owner, subject: UUID) -> tuple[int, Decimal]:
    row = await owner.fetchrow("SELECT messages, usd FROM usage_months WHERE subject = $1", subject)
    return (row["messages"], row["usd"]) if row else (0, Decimal(0))


async def test_a_model_that_asks_for_the_same_call_a_third_time_in_a_row_is_stopped_before_it_is_made(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    same = [
        Turn(ToolCall("create_project", arguments)) for arguments in ({"name": "A"}, '{ "name":"A" }', {"name": "A"})
    ]
    model.script(*same, Turn("Here I am."))
    stream = await run(house_open, tenant.token, body(user("Go"), thread="t"))
    assert (stream.last["type"], stream.last["code"]) == ("RUN_ERROR", "run_loop_detected")
    assert len(model.requests) == 3
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'A'") == 2
    (row,) = await owner.fetch("SELECT status, error_code, requests, tool_calls FROM runs")
    assert tuple(row) == ("failed", "run_loop_detected", 3, 2)
    assert (await run(house_open, tenant.token, body(user("And now?"), thread="t"))).text == "Here I am."


async def test_what_is_no_loop_is_none(house_open: Inn, tenant: Tenant, model: ScriptedModel) -> None:
    other = Turn(ToolCall("list_projects", {"limit": 2}))
    model.script(*looks(2), other, *looks(2), Turn("Done."))
    assert (await run(house_open, tenant.token, body(user("Look"), thread="t"))).text == "Done."
    model.script(*looks(2), Turn("Done."))
    assert (await run(house_open, tenant.token, body(user("Look again"), thread="t"))).text == "Done."
    at_once = Turn(*(ToolCall(*LOOK) for _ in range(4)))
    model.script(at_once, Turn("Done."))
    assert (await run(house_open, tenant.token, body(user("Look")))).text == "Done."


async def test_a_tool_that_reads_may_be_asked_as_long_as_its_answer_changes(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gates = [Gate() for _ in range(3)]
    model.script(*(Turn(gate, ToolCall("get_project", {"project_id": str(tenant.project_id)})) for gate in gates))
    model.script(Turn("Done."))
    going = asyncio.create_task(run(house_open, tenant.token, body(user("Wait for it"))))
    for number, gate in enumerate(gates):
        await gate.reached.wait()
        await owner.execute("UPDATE projects SET name = $1", f"name {number}")
        gate.open()
    assert (await going).text == "Done."


async def test_a_run_ends_before_the_request_that_is_over_its_steps_tokens_or_cost(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, model_prices=PRICES)
    varied = [Turn(ToolCall("list_projects", {"limit": number}), usage=(100, 50)) for number in range(1, 9)]
    for given, made in (({"steps": 2}, 2), ({"tokens": 300}, 2), ({"cost_usd": 0.5}, 3), ({"tool_calls": 1}, 2)):
        await limits(owner, **given)
        model.forget()
        model.script(*varied[:made], Turn("Too far."))
        stream = await run(house_open, tenant.token, body(user("Look")))
        assert (given, stream.last.get("code"), len(model.requests)) == (given, "run_limit_reached", made)
        assert OVER[next(iter(given))] in stream.last["message"]
    cost = await owner.fetchval("SELECT cost_usd FROM runs WHERE requests = 3")
    assert cost == Decimal("0.6")
    # A call that failed was made, too.
    model.forget()
    model.script(*(Turn(ToolCall("get_project", {"project_id": str(uuid7())})) for _ in range(2)), Turn("Too far."))
    stream = await run(house_open, tenant.token, body(user("Look")))
    assert (stream.last.get("code"), len(model.requests)) == ("run_limit_reached", 2)


@pytest.mark.parametrize(("given", "steps"), [({"steps": 4}, 4), ({"tokens": 400}, 5), ({"cost_usd": 0.39}, 5)])
async def test_runs_that_runs_start_in_whatever_project_use_up_the_same_limits(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, given: dict[str, Any], steps: int
) -> None:
    project = tenant.project_id if "cost_usd" in given else await another_project(owner, tenant)
    await limits(owner, **given)
    await budget(owner, tenant, model_prices=PRICES)
    gate, looked = Gate(), iter(range(1, 9))

    def answer(request: dict[str, Any]) -> Turn:
        said = str(request["messages"])
        if "Delegate" not in said:
            return Turn(ToolCall("list_projects", {"limit": next(looked)}), usage=(100, 0))
        if "start_run" in said:
            return Turn(gate, "Mine.", usage=(100, 0))
        return Turn(ToolCall("start_run", {"project_id": str(project), "message": "Help"}), usage=(100, 0))

    async def child_ended() -> bool:
        return bool(await owner.fetchval("SELECT true FROM runs WHERE parent_id IS NOT NULL AND ended_at IS NOT NULL"))

    model.answering = answer
    going = asyncio.create_task(run(house_open, tenant.token, body(user("Delegate"))))
    await gate.reached.wait()
    await eventually(child_ended)
    gate.open()
    await going
    rows = await owner.fetch("SELECT parent_id IS NULL AS parent, requests, error_code FROM runs")
    assert {(row["parent"], row["error_code"]) for row in rows} == {(True, None), (False, "run_limit_reached")}
    assert sum(row["requests"] for row in rows) == steps


async def test_a_project_that_used_up_its_messages_is_told_402_and_its_owners_get_one_mail(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute("UPDATE users SET email = 'ada@example.org' WHERE id = $1", tenant.user_id)
    await budget(owner, tenant, monthly_messages=2)
    for _ in range(2):
        assert (await run(house_open, tenant.token, body(user("Hello")))).last["type"] == "RUN_FINISHED"
    for _ in range(2):
        refused = await run(house_open, tenant.token, body(user("Hello")))
        assert (refused.status, refused.problem["type"]) == (402, "urn:innkeeper:error:budget_exceeded")
        assert "2 messages" in refused.problem["detail"]
    assert len(model.requests) == 2
    assert await owner.fetchval("SELECT count(*) FROM runs") == 2
    mails = await owner.fetch("SELECT address, variables FROM house_mails WHERE kind = 'message_limit'")
    assert [(mail["address"], json.loads(mail["variables"])["limit"]) for mail in mails] == [
        ("ada@example.org", "2 messages")
    ]
    demo = await run(house_open, tenant.token, body(user("Hello")), agent="demo")
    assert demo.last["type"] == "RUN_FINISHED"
    await budget(owner, tenant, monthly_messages=3)
    assert (await run(house_open, tenant.token, body(user("Hello")))).last["type"] == "RUN_FINISHED"


async def test_however_many_ask_at_once_on_two_processes_no_more_messages_are_answered_than_there_are(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, monthly_messages=5)
    async with inn(urls, model_url=model.base_url) as other:
        asked = [run((house_open, other)[number % 2], tenant.token, body(user("Me!"))) for number in range(12)]
        streams = await asyncio.gather(*asked)
    answered = [stream for stream in streams if stream.status == 200 and stream.last["type"] == "RUN_FINISHED"]
    assert len(answered) == len(model.requests) == 5
    assert {code(stream) for stream in streams if stream not in answered} == {"budget_exceeded"}
    assert await month(owner, tenant.project_id) == (5, Decimal(0))


async def test_a_message_is_counted_once_however_many_requests_and_runs_its_answer_takes(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, monthly_messages=1)
    tool = {"name": "pick_colour", "description": "Asks.", "parameters": {"type": "object"}}
    call = ToolCall("pick_colour", {})
    model.script(*looks(1), Turn(call), Turn("Blue it is."))
    await run(house_open, tenant.token, body(user("Which?"), thread="t", tools=[tool]))
    result = {"id": "m2", "role": "tool", "toolCallId": call.id, "content": "blue"}
    assert (await run(house_open, tenant.token, body(result, thread="t", tools=[tool]))).text == "Blue it is."
    # Results that somebody makes up to get around it are found out before the model is asked.
    made_up = body(user("And now?"), {**result, "id": "m3"}, thread="t", tools=[tool])
    assert code(await run(house_open, tenant.token, made_up)) == "budget_exceeded"
    assert len(model.requests) == 3
    assert await month(owner, tenant.project_id) == (1, Decimal(0))


async def test_money_runs_out_in_mid_run_and_concurrent_runs_spend_no_more_than_their_requests_in_flight(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, model_prices=PRICES, monthly_usd=Decimal("0.25"))
    look = iter(range(1, 50))
    model.answering = lambda _asked: Turn(ToolCall("list_projects", {"limit": next(look)}), usage=(100, 0))
    stream = await run(house_open, tenant.token, body(user("Look")))
    assert (stream.last["code"], len(model.requests)) == ("budget_exceeded", 3)
    assert await month(owner, tenant.project_id) == (1, Decimal("0.3"))
    refused = await run(house_open, tenant.token, body(user("Look")))
    assert (refused.status, code(refused)) == (402, "budget_exceeded")

    # What is reserved for the requests in flight counts: here one of them takes all that is left.
    await budget(owner, tenant, monthly_usd=Decimal("0.5"))
    gate = Gate()
    model.answering = lambda _asked: Turn(gate, "Here.", usage=(10, 0))
    going = [asyncio.create_task(run(house_open, tenant.token, body(user("Look")))) for _ in range(4)]
    await gate.reached.wait()
    done, waiting = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
    while len(waiting) > 1:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    gate.open()
    await asyncio.gather(*waiting)
    assert {code(task.result()) for task in done} == {"budget_exceeded"}
    assert [task.result().text for task in waiting] == ["Here."]
    assert (await month(owner, tenant.project_id))[1] == Decimal("0.31")


async def test_an_answer_that_is_broken_off_or_deleted_has_cost_what_was_estimated(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, model_prices=PRICES, monthly_usd=Decimal(10))
    gate = Gate()
    model.script(Turn("Many words", gate, Hang()), Turn("Others", (later := Gate()), Hang()))
    going = asyncio.create_task(run(house_open, tenant.token, body(user("Look"), run="r")))
    await gate.reached.wait()
    gate.open()
    run_id = await owner.fetchval("SELECT id FROM runs")
    await eventually(lambda: said(owner, run_id))
    await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
    await going
    spent = (await month(owner, tenant.project_id))[1]
    assert spent > Decimal("0.05")

    going = asyncio.create_task(run(house_open, tenant.token, body(user("Look"))))
    await later.reached.wait()
    reserved = await owner.fetchval("SELECT reserved_usd FROM runs WHERE ended_at IS NULL")
    await owner.execute("DELETE FROM threads")
    await going
    assert reserved > 1
    assert (await month(owner, tenant.project_id))[1] == spent + reserved


async def test_an_end_user_has_a_budget_of_their_own_within_the_projects(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, end_user_monthly_messages=1, monthly_messages=3)
    people = [uuid7(), uuid7()]
    for person in people:
        await owner.execute(
            "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, $3)",
            *(tenant.project_id, person, str(person)),
        )
    callers = [replace(tenant.principal, end_user_id=people[which]) for which in (0, 0, 1)] + [tenant.principal] * 2
    outcomes = [await started(house_open, who, tenant) for who in callers]
    assert outcomes == [None, "402: This end user", None, None, "402: This project"]
    asked = json.dumps(body(user("Hello"))).encode()
    with pytest.raises(AppError) as told:
        await house_open.engine.start(callers[2], asked, project_id=tenant.project_id)
    # How much the whole project may use is not for its end users.
    assert "3" not in f"{told.value.message} {told.value.hint}"
    assert [await month(owner, person) for person in people] == [(1, Decimal(0))] * 2
    assert await month(owner, tenant.project_id) == (3, Decimal(0))


async def test_a_run_that_was_taken_over_twice_pays_for_each_request_once_by_estimate_where_its_answer_broke_off(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await budget(owner, tenant, model_prices=PRICES, monthly_usd=Decimal(10))
    half = Turn("Half", Hang())
    again = Turn(ToolCall(*LOOK), usage=(100, 0))
    model.script(half, again, half, Turn("Whole.", usage=(50, 0)))
    async with running(house_open, tenant.token, body(user("Look"))) as (stream, response):
        chunks = response.aiter_raw()
        for halves in (1, 2):
            while stream.types.count("TEXT_MESSAGE_CONTENT") < halves:
                stream.feed(await anext(chunks))
            await orphan(owner)
        await rest(stream, chunks)
    assert stream.last["type"] == "RUN_FINISHED"
    (row,) = await owner.fetch(
        "SELECT requests, tool_calls, input_tokens, output_tokens, cost_usd, metered_usd, reserved_usd FROM runs"
    )
    requests, calls, taken, given, cost, metered, reserved = row
    assert (requests, calls, reserved) == (4, 1, None)
    # The second process knows what the first broke off, the third finds that in the journal.
    assert taken > 150 + 2 * 50
    assert given == 2 * 2
    assert metered == cost > Decimal("0.25")
    assert await month(owner, tenant.project_id) == (1, cost)


def code(stream: Stream) -> str:
    """Of the problem that kept a run from starting, or of its last event."""
    return str(stream.problem["type"].rpartition(":")[2] if stream.problem else stream.last.get("code"))


async def said(owner: Owner, run_id: UUID) -> bool:
    return bool(await owner.fetchval("SELECT count(*) > 2 FROM run_events WHERE run_id = $1", run_id))


async def started(house: Inn, who: Any, tenant: Tenant) -> str | None:
    """Whose budget kept a run from starting; None when it ran to its end."""
    asked = json.dumps(body(user("Hello"))).encode()
    try:
        handle = await house.engine.start(who, asked, project_id=tenant.project_id)
    except AppError as error:
        return f"{error.status}: {error.message.partition(' has ')[0]}"
    while not handle.tail.over:
        await handle.tail.next(5)
    return None


async def test_a_run_that_a_run_starts_ends_with_it_at_the_latest_and_a_tool_is_told_that_there_is_no_budget(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await limits(owner, seconds=30)
    start = {"project_id": str(tenant.project_id), "message": "Help"}
    model.answering = lambda asked: Turn(ToolCall("start_run", start)) if len(asked["messages"]) < 3 else Turn("Done.")
    await budget(owner, tenant, monthly_messages=2)
    stream = await run(house_open, tenant.token, body(user("Delegate"), run="parent"))
    assert stream.last["type"] == "RUN_FINISHED"

    async def both_ended() -> bool:
        return bool(await owner.fetchval("SELECT count(*) = 2 FROM runs WHERE ended_at IS NOT NULL"))

    await eventually(both_ended)
    assert (await month(owner, tenant.project_id))[0] == 2
    ends = [row["deadline_at"] for row in await owner.fetch("SELECT deadline_at FROM runs ORDER BY created_at")]
    assert ends[1] <= ends[0]
    model.answering = None
    await budget(owner, tenant, monthly_messages=3)
    model.script(Turn(ToolCall("start_run", start)), Turn("Nothing left."))
    stream = await run(house_open, tenant.token, body(user("Delegate")))
    told = next(event for event in stream.events if event["type"] == "TOOL_CALL_RESULT")
    assert "budget of 3 messages" in told["content"]


async def test_of_a_long_thread_a_model_gets_the_instructions_and_the_newest_with_calls_and_results_together(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute("UPDATE projects SET instructions = 'Be brief.', max_input_tokens = 1200")
    await run(house_open, tenant.token, body(user("Oldest. " + "x" * 3000), thread="t"))
    model.script(Turn(ToolCall(*LOOK, id="look")), Turn("Looked."))
    await run(house_open, tenant.token, body(user("Look"), thread="t"))
    await run(house_open, tenant.token, body(user("Newest"), thread="t"))
    sent = model.requests[-1].body["messages"]
    assert "Be brief." in sent[0]["content"]
    assert [message["role"] for message in sent[1:]] == ["user", "assistant", "tool", "assistant", "user"]
    assert (sent[1]["content"], sent[2]["tool_calls"][0]["id"], sent[-1]["content"]) == ("Look", "look", "Newest")
