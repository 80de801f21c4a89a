"""What happens to a run whose thread has one already: refused, put in line, or in its place. And its cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from statistics import quantiles
from typing import Any
from uuid import UUID, uuid4

import pytest

from agents import leases
from db.embedded.cluster import EmbeddedPostgres
from db.runs import MOST_WAITING, OnBusy
from tests.agents.inn import Inn, Stream, another_project, body, ended, inn, rest, run, running, speaking, until, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn
from tests.machine import Stopwatch, within
from tools.runs import Errand


def asks(text: str, wish: str, run_id: str, **more: Any) -> dict[str, Any]:
    return body(user(text), thread="t", run=run_id, forwardedProps={"innkeeper": {"onBusy": wish}}, **more)


async def in_line(owner: Owner, number: int) -> bool:
    found: int = await owner.fetchval("SELECT count(*) FROM runs WHERE status = 'queued'")
    return found == number


@pytest.mark.promise("RUN-03")
async def test_runs_in_line_come_one_after_the_other_each_with_the_history_of_those_before(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("One", gate), Turn("Two"), Turn("Three"))
    async with speaking(house_open, tenant.token, asks("First", "enqueue", "r1")) as (first, chunks):
        waiting = []
        for number, text in ((1, "Second"), (2, "Third")):
            asked = asks(text, "enqueue", f"r{number + 1}")
            waiting.append(asyncio.create_task(run(house_open, tenant.token, asked)))
            await eventually(partial(in_line, owner, number))
        assert len(model.requests) == 1
        gate.open()
        await rest(first, chunks)
        second, third = await asyncio.gather(*waiting)
    for stream in (first, second, third):
        assert stream.last["outcome"] == {"type": "success"}
        assert stream.ids == list(range(1, len(stream.ids) + 1))
    said = [message["content"] for message in model.requests[2].body["messages"] if message["role"] != "system"]
    assert said == ["First", "One", "Second", "Two", "Third"]
    positions = await owner.fetch("SELECT position FROM messages ORDER BY position")
    assert [row["position"] for row in positions] == [1, 2, 3, 4, 5, 6]


@pytest.mark.promise("RUN-03")
async def test_a_run_that_interrupts_ends_the_others_of_its_thread_and_takes_their_place(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("On and on", Hang()), Turn("Short."))
    async with (
        inn(urls, model_url=model.base_url) as other,
        speaking(house_open, tenant.token, asks("First", "reject", "r1")) as (first, chunks),
        running(other, tenant.token, asks("Second", "enqueue", "r2")) as (second, its_response),
    ):
        its_chunks = its_response.aiter_raw()
        await until(second, its_chunks, "RUN_STARTED")
        third = await run(other, tenant.token, asks("Third", "interrupt", "r3"))
        await rest(first, chunks)
        await rest(second, its_chunks)
    assert first.last["outcome"] == second.last["outcome"] == {"type": "cancelled"}
    assert second.types == ["RUN_STARTED", "RUN_FINISHED"]
    assert third.last["outcome"] == {"type": "success"}
    said = [message["content"] for message in model.requests[1].body["messages"] if message["role"] != "system"]
    assert said == ["First", "On and on", "Third"]


@pytest.mark.promise("RUN-03")
async def test_a_queue_has_an_end_and_a_wish_nobody_knows_is_refused(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    async with speaking(house_open, tenant.token, asks("First", "reject", "r0")):
        thread_id = await owner.fetchval("SELECT thread_id FROM runs")
        await owner.execute(
            "INSERT INTO runs (project_id, id, thread_id, external_id, credential_id, user_id, agent, input_digest)"
            " SELECT $1, gen_random_uuid(), $2, 'x' || n, $3, $4, 'default', '' FROM generate_series(1, $5) n",
            *(tenant.project_id, thread_id, tenant.principal.credential_id, tenant.user_id, MOST_WAITING),
        )
        full = await run(house_open, tenant.token, asks("Another", "enqueue", "late"))
        assert (full.status, full.problem["type"]) == (429, "urn:innkeeper:error:thread_queue_full")
        assert full.headers["retry-after"]
        busy = await run(house_open, tenant.token, asks("Another", "reject", "late"))
        assert (busy.status, busy.problem["type"]) == (409, "urn:innkeeper:error:thread_busy")
        strange = await run(house_open, tenant.token, asks("Another", "jump", "late"))
        assert strange.status == 400


@pytest.mark.promise("RUN-03")
async def test_a_run_in_line_that_has_nothing_to_answer_or_no_agent_says_so_when_its_turn_comes(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("One", gate))
    question = user("First")
    async with speaking(house_open, tenant.token, body(question, thread="t")) as (first, chunks):
        asked = body(question, thread="t", run="echo", forwardedProps={"innkeeper": {"onBusy": "enqueue"}})
        echo = asyncio.create_task(run(house_open, tenant.token, asked))
        await owner.execute(
            "INSERT INTO agents (project_id, id, name, tools) VALUES ($1, $2, 'narrow', '{list_agents}')",
            *(tenant.project_id, uuid4()),
        )
        narrow = asyncio.create_task(run(house_open, tenant.token, asks("Go", "enqueue", "n"), agent="narrow"))
        await eventually(lambda: in_line(owner, 2))
        await owner.execute("DELETE FROM agents WHERE name = 'narrow'")
        gate.open()
        await rest(first, chunks)
    for stream, code in ((await echo, "no_new_message"), (await narrow, "agent_not_found")):
        assert stream.types == ["RUN_STARTED", "RUN_ERROR"]
        assert stream.last["code"] == code
    assert len(model.requests) == 1


@pytest.mark.promise("RUN-04")
async def test_cancelling_is_fast_on_any_process_in_a_stalled_model_a_tool_and_a_queue(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, cluster: EmbeddedPostgres
) -> None:
    """The time from asking, on another process, until the stream's reader has the terminal event."""
    took: list[float] = []

    async def stopped(asker: Inn, stream: Stream, chunks: AsyncIterator[bytes]) -> None:
        run_id = UUID(stream.headers["innkeeper-run-id"])
        watch = Stopwatch(cluster.pid)
        assert await asker.engine.cancel(tenant.principal, tenant.project_id, run_id)
        await rest(stream, chunks)
        took.append(watch.seconds())
        assert stream.last["outcome"] == {"type": "cancelled"}

    async def p99() -> float:
        took.clear()
        for number in range(15):
            model.script(Turn("Stalled", Hang()))
            thread = f"t{number}"
            async with speaking(house_open, tenant.token, body(user("Hello"), thread=thread)) as (stream, chunks):
                async with running(other, tenant.token, asks_in(thread, "enqueue")) as (line, response):
                    its_chunks = response.aiter_raw()
                    await until(line, its_chunks, "RUN_STARTED")
                    await stopped(house_open, line, its_chunks)
                await stopped(other, stream, chunks)
        for _ in range(5):
            # A tool that waits for a row that somebody else holds.
            async with owner.transaction():
                await owner.execute("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE", tenant.project_id)
                change = {"project_id": str(tenant.project_id), "name": "Held"}
                model.script(Turn(ToolCall("update_project", change)))
                async with running(house_open, tenant.token, body(user("Go"))) as (stream, response):
                    chunks = response.aiter_raw()
                    await until(stream, chunks, "TOOL_CALL_END")
                    await stopped(other, stream, chunks)
        return quantiles(took, n=100)[98]

    async with inn(urls, model_url=model.base_url) as other:
        await within(0.1, p99)
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'Held'") == 0


def asks_in(thread: str, wish: str) -> dict[str, Any]:
    return body(user("And then?"), thread=thread, forwardedProps={"innkeeper": {"onBusy": wish}})


@pytest.mark.promise("RUN-04")
async def test_what_was_said_before_a_cancel_stays_and_the_next_run_takes_the_history(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    call = ToolCall("list_projects", {})
    model.script(Turn("Looking. ", call), Turn("There is", Hang()), Turn("As I said."))
    async with running(house_open, tenant.token, body(user("Hello"), thread="t", run="r")) as (stream, response):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TOOL_CALL_RESULT")
        while "There is" not in stream.text:
            stream.feed(await anext(chunks))
        run_id = UUID(stream.headers["innkeeper-run-id"])
        assert await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
        await rest(stream, chunks)
    assert await ended(owner, "r") == "cancelled"
    after = await run(house_open, tenant.token, body(user("Go on"), thread="t"))
    assert after.last["outcome"] == {"type": "success"}
    roles = [message["role"] for message in model.requests[-1].body["messages"] if message["role"] != "system"]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert "There is" in str(model.requests[-1].body["messages"])
    assert not await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)


@pytest.mark.promise("RUN-04")
async def test_a_run_that_is_cancelled_while_a_process_takes_it_up_ends_at_once(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The leases are not asked about meanwhile: they would tell of it as well, a second later.
    monkeypatch.setattr(leases, "RENEW_SECONDS", 3600.0)
    model.play("Go", Turn("On and on", Hang()))
    async with house_open.database.transaction(tenant.principal, tenant.project_id) as connection:
        errand = Errand("default", "Go", "t", uuid4(), "reject")
        run_id, _thread = await house_open.engine.begin(connection, tenant.principal, tenant.project_id, errand)
        # What the user said cannot be written yet: whoever takes the run waits there, after it has read the run's row.
        hold = owner.transaction()
        await hold.start()
        await owner.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
    await eventually(lambda: waits_for_messages(owner))
    assert await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
    await owner.execute("UPDATE runs SET lease_expires_at = now() + interval '1 hour'")
    await hold.commit()
    assert await ended(owner, str(run_id)) == "cancelled"
    assert model.requests == []


async def waits_for_messages(owner: Owner) -> bool:
    found: bool = await owner.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'messages'::regclass AND NOT granted)"
    )
    return found


async def stands(owner: Owner, *statuses: str) -> bool:
    """Whether the run "root" and those below it, in turn, are in these states."""
    rows = await owner.fetch("SELECT status FROM runs WHERE external_id = 'root' OR root_id IS NOT NULL ORDER BY depth")
    return tuple(row["status"] for row in rows) == statuses


@pytest.mark.promise("RUN-04")
async def test_a_run_that_is_cancelled_takes_the_runs_with_it_that_it_has_started_and_no_others(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    def starts(message: str, project: UUID = tenant.project_id) -> Turn:
        return Turn(ToolCall("start_run", {"project_id": str(project), "message": message}))

    await owner.execute("UPDATE agents SET limits = '{\"seconds\": 60}'")
    model.play("Delegate", starts("Pass it on"), Turn("And now", Hang()))
    model.play("Pass it on", starts("Work", await another_project(owner, tenant)), Turn("I did."))
    for said in ("Work", "Something else"):
        model.play(said, Turn("On and on", Hang()))
    async with (
        speaking(house_open, tenant.token, body(user("Something else"), run="other")) as (other, _chunks),
        speaking(house_open, tenant.token, body(user("Delegate"), run="root")) as (stream, chunks),
    ):
        await eventually(lambda: stands(owner, "running", "succeeded", "running"))
        assert await owner.fetchval("SELECT count(DISTINCT deadline_at) FROM runs WHERE external_id <> 'other'") == 1
        run_id = UUID(stream.headers["innkeeper-run-id"])
        assert await house_open.engine.cancel(tenant.principal, tenant.project_id, run_id)
        await rest(stream, chunks)
        await eventually(lambda: stands(owner, "cancelled", "succeeded", "cancelled"))
        assert other.types[-1] == "TEXT_MESSAGE_CONTENT"
    rows = await owner.fetch("SELECT external_id, status FROM runs WHERE status = 'running'")
    assert [row["external_id"] for row in rows] == ["other"]


@pytest.mark.promise("RUN-03")
async def test_a_run_may_hand_its_thread_over_to_another_one(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await run(house_open, tenant.token, body(user("Hello"), thread="t"))
    thread_id = await owner.fetchval("SELECT id FROM threads")
    handing = {"project_id": str(tenant.project_id), "thread_id": str(thread_id), "on_busy": "interrupt"}
    model.play("Hand it over", Turn(ToolCall("start_run", {**handing, "message": "Your turn"})))
    first = await run(house_open, tenant.token, body(user("Hand it over"), thread="t"))
    assert first.last["outcome"] == {"type": "cancelled"}
    second = await owner.fetchval("SELECT external_id FROM runs WHERE parent_id IS NOT NULL")
    assert await ended(owner, second) == "succeeded"


@pytest.mark.promise("RUN-04")
@pytest.mark.parametrize("on_busy", ["enqueue", "interrupt"])
async def test_a_run_that_is_being_cancelled_does_not_go_on_as_another_one_in_its_thread(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, on_busy: OnBusy
) -> None:
    model.play("Stay", Turn("Hm", Hang()))
    async with speaking(house_open, tenant.token, body(user("Stay"), thread="t")) as (stream, _chunks):
        # As it is for the moment that its process needs to hear of it.
        await owner.execute("UPDATE runs SET cancel_requested_at = now()")
        asking = tenant.principal.for_run(UUID(stream.headers["innkeeper-run-id"]), depth=1, epoch=1)
        errand = Errand("default", "Your turn", "t", uuid4(), on_busy)
        async with house_open.database.transaction(asking, tenant.project_id) as connection:
            run_id, _thread = await house_open.engine.begin(connection, asking, tenant.project_id, errand)
        assert await owner.fetchval("SELECT cancel_requested_at IS NOT NULL FROM runs WHERE id = $1", run_id)
