"""A process that has a run dies, ends, or stands still; another process goes on with the run."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, Final
from uuid import UUID

import httpx2
import pytest

from db.embedded.cluster import EmbeddedPostgres
from tests.agents.inn import Stream, body, ended, followed, following, rest, running, until, user
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn
from tests.killing.conftest import Open
from tests.killing.houses import House
from tests.killing.points import (
    EFFECT_WRITTEN,
    MODEL_BEGINS,
    TOOL_BEGINS,
    TOOL_DONE,
    TOOL_RECORDED,
    Point,
)
from tests.machine import Stopwatch

pytestmark = pytest.mark.promise("RUN-05")

TAKEN_OVER_SECONDS = 5.0


def two_projects() -> Turn:
    return Turn(
        "Two: ", *(ToolCall("create_project", {"name": name}, id=f"call-{name}") for name in ("North", "South"))
    )


async def made(owner: Owner) -> list[str]:
    rows = await owner.fetch("SELECT name FROM projects WHERE name IN ('North', 'South', 'Stale')")
    return sorted(row["name"] for row in rows)


async def read_on(stream: Stream, chunks: Any) -> None:
    """To where the connection breaks, if it does."""
    try:
        await rest(stream, chunks)
    except httpx2.TransportError:
        return


async def taken_over(house: House, token: str, run_id: str, stream: Stream, since: Stopwatch) -> tuple[Stream, float]:
    """What a reader gets elsewhere behind what ``stream`` has, and after how many seconds the first of it came."""
    async with following(house, token, run_id, len(stream.ids)) as (more, response):
        chunks = response.aiter_raw()
        while not more.ids:
            more.feed(await anext(chunks))
        took = since.seconds()
        await rest(more, chunks)
    return more, took


def agrees(whole: Stream, *parts: Stream) -> None:
    """One log: what was read of it piece by piece is what is read of it as a whole, byte for byte."""
    assert whole.ids == list(range(1, len(whole.ids) + 1))
    assert b"".join(frames(part) for part in parts) == frames(whole)
    ends = [event for event in whole.events if event["type"] in ("RUN_FINISHED", "RUN_ERROR")]
    assert ends == [whole.last]


def frames(stream: Stream) -> bytes:
    """The whole events of what came, without comments."""
    *found, _torn = stream.raw.split(b"\n\n")
    return b"".join(frame + b"\n\n" for frame in found if frame.startswith(b"id: "))


DEATHS: Final = {
    "in the model's stream": None,
    TOOL_BEGINS: Point(TOOL_BEGINS, act="hold"),
    EFFECT_WRITTEN: Point(EFFECT_WRITTEN, act="hold"),
    TOOL_DONE: Point(TOOL_DONE, act="hold"),
    "one of two tools is recorded": Point(TOOL_RECORDED, act="hold"),
    "both tools are recorded": Point(MODEL_BEGINS, on=2, act="hold"),
}


async def killed(
    dying: House, heir: House, tenant: Tenant, model: ScriptedModel, case: str, at: Point | None, database: int
) -> str:
    """A run that makes two projects, killed at that point, goes on elsewhere. Gives its id. ``database``: a process."""
    calls = [ToolCall("create_project", {"name": name}, id=f"call-{n}") for n, name in enumerate(named(case))]
    last = Turn("Done.") if at else (Turn("Both", Hang()), Turn("Done."))
    model.play(case, Turn("Two: ", *calls), last)
    async with running(dying, tenant.token, body(user(case), run=case)) as (before, response):
        reading = asyncio.create_task(read_on(before, response.aiter_raw()))
        run_id = response.headers["innkeeper-run-id"]
        if at is None:
            await eventually(lambda: said(before, "Both"))
        else:
            await dying.reached[at.name].wait()
        since = Stopwatch(heir.pid, database)
        await dying.kill()
        await reading
    after, took = await taken_over(heir, tenant.token, run_id, before, since)
    assert took < TAKEN_OVER_SECONDS
    assert after.last["outcome"] == {"type": "success"}
    agrees(await followed(heir, tenant.token, run_id), before, after)
    return run_id


def named(case: str) -> list[str]:
    return [f"{case}, {side}" for side in ("North", "South")]


async def test_after_kill_9_another_process_goes_on_from_the_last_finished_step_within_5_s(
    open_house: Open, tenant: Tenant, model: ScriptedModel, owner: Owner, cluster: EmbeddedPostgres
) -> None:
    """Six processes die, each at another point of its run; one has all their runs then."""
    dying = [await open_house(*([at] if at else [])) for at in DEATHS.values()]
    heir = await open_house()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        tasks = {
            case: group.create_task(killed(house, heir, tenant, model, case, at, cluster.pid))
            for house, (case, at) in zip(dying, DEATHS.items(), strict=True)
        }
    for case, task in tasks.items():
        run_id = task.result()
        projects = await owner.fetch("SELECT name FROM projects WHERE name LIKE $1 ORDER BY name", f"{case}, %")
        assert [row["name"] for row in projects] == named(case)
        asked = [one.body["messages"] for one in model.requests if case in str(one.body["messages"][1])]
        assert len(asked) == (2 if DEATHS[case] else 3)
        assert asked[-1] == asked[1]
        [used] = await owner.fetch("SELECT requests, output_tokens FROM runs WHERE id = $1", UUID(run_id))
        # An answer that its process left in the middle of was paid for as well: by estimate.
        assert tuple(used) == ((2, 4) if DEATHS[case] else (3, 6))
        steps = await owner.fetch("SELECT name FROM run_steps WHERE run_id = $1 ORDER BY name", UUID(run_id))
        assert [row["name"] for row in steps] == ["model:1", "model:2", "tool:1:call-0", "tool:1:call-1"]
        keys = await owner.fetch("SELECT key FROM idempotency WHERE key LIKE $1 ORDER BY key", f"{run_id}:%")
        assert [row["key"] for row in keys] == [f"{run_id}:1:call-0", f"{run_id}:1:call-1"]


async def said(stream: Stream, text: str) -> bool:
    await asyncio.sleep(0.01)
    return text in stream.text


async def test_sigterm_hands_runs_over_at_once_and_readers_notice_nothing(
    open_house: Open, tenant: Tenant, model: ScriptedModel, owner: Owner, cluster: EmbeddedPostgres
) -> None:
    ending, heir = await open_house(), await open_house()
    gate = Gate()
    model.script(*(Turn("Here", gate) for _ in range(5)), *(Turn("There.") for _ in range(5)))
    names = [f"run {number}" for number in range(5)]

    async def run_at(name: str) -> tuple[Stream, str]:
        async with running(ending, tenant.token, body(user("Hello"), run=name)) as (stream, response):
            await rest(stream, response.aiter_raw())
            return stream, response.headers["innkeeper-run-id"]

    async def elsewhere(run_id: str) -> tuple[Stream, float]:
        async with following(heir, tenant.token, run_id) as (stream, response):
            chunks = response.aiter_raw()
            await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
            speaking.release()
            await until(stream, chunks, "CUSTOM")
            took = since.seconds()
            await rest(stream, chunks)
            return stream, took

    since, speaking = Stopwatch(), asyncio.Semaphore(0)
    here = [asyncio.create_task(run_at(name)) for name in names]
    await model.requested(5)
    rows = await owner.fetch("SELECT id FROM runs ORDER BY external_id")
    there = [asyncio.create_task(elsewhere(str(row["id"]))) for row in rows]
    for _ in names:
        await speaking.acquire()
    since = Stopwatch(ending.pid, heir.pid, cluster.pid)
    ending.signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        streams = [await task for task in here]
        others = dict(zip((str(row["id"]) for row in rows), [await task for task in there], strict=True))
        await ending.gone()
    assert ending.code == 0
    for stream, run_id in streams:
        other, took = others[run_id]
        assert took < 2
        assert stream.text == "HereThere."
        assert stream.last["outcome"] == {"type": "success"}
        agrees(stream, other)
    epochs = await owner.fetch("SELECT lease_epoch, status FROM runs")
    assert {tuple(row) for row in epochs} == {(2, "succeeded")}


async def test_a_process_that_stood_still_writes_no_event_and_no_message_after_it_was_taken_over(
    open_house: Open, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    paused, heir = await open_house(lease=1.0), await open_house(lease=1.0)
    gate = Gate()
    stale = Turn("Stale ", gate, "words.", ToolCall("create_project", {"name": "Stale"}))
    model.script(stale, Turn("Fresh words."))
    async with running(paused, tenant.token, body(user("Hello"), thread="t", run="r")) as (before, response):
        reading = asyncio.create_task(read_on(before, response.aiter_raw()))
        run_id = response.headers["innkeeper-run-id"]
        await eventually(lambda: said(before, "Stale "))
        paused.signal(signal.SIGSTOP)
        gate.open()
        assert await ended(owner, "r") == "succeeded"
        whole = await followed(heir, tenant.token, run_id)
        left = await everything(owner)
        paused.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            # Its reader is told of what it does not have itself.
            await reading
    assert frames(before) == frames(whole)
    assert await everything(owner) == left
    assert len(model.requests) == 2
    assert await made(owner) == []
    # It goes on serving, and a next run finds only what counts.
    model.script(Turn("Yes."))
    async with running(paused, tenant.token, body(user("And?"), thread="t")) as (again, response):
        await rest(again, response.aiter_raw())
    assert again.last["outcome"] == {"type": "success"}
    spoken = json.dumps(model.requests[-1].body["messages"])
    assert "Fresh words." in spoken
    assert "Stale" not in spoken


async def everything(owner: Owner) -> list[Any]:
    tables = ("runs", "run_events", "run_steps", "messages", "projects", "idempotency")
    return [[tuple(row) for row in await owner.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")] for table in tables]


@pytest.mark.parametrize("where", [TOOL_BEGINS, EFFECT_WRITTEN])
async def test_a_process_that_stood_still_carries_out_no_tool_of_a_run_that_ended_meanwhile(
    open_house: Open, tenant: Tenant, model: ScriptedModel, owner: Owner, where: str
) -> None:
    paused, heir = await open_house(Point(where, act="hold"), lease=1.0), await open_house(lease=1.0)
    model.script(Turn(ToolCall("create_project", {"name": "Stale"})), Turn("Never said."))
    async with running(paused, tenant.token, body(user("Make it"), run="r")) as (before, response):
        reading = asyncio.create_task(read_on(before, response.aiter_raw()))
        run_id = response.headers["innkeeper-run-id"]
        await paused.reached[where].wait()
        paused.signal(signal.SIGSTOP)
        bearer = {"authorization": f"Bearer {tenant.token}"}
        cancelled = await heir.client.post(f"{heir.url}/runs/{run_id}/cancel", headers=bearer)
        assert cancelled.status_code == 202, cancelled.text
        assert await ended(owner, "r") == "cancelled"
        paused.signal(signal.SIGUSR1)
        paused.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            await reading
    assert before.last["outcome"] == {"type": "cancelled"}
    agrees(await followed(paused, tenant.token, run_id), before)
    assert await made(owner) == []
    assert len(model.requests) == 1


async def test_a_process_that_stands_still_in_a_tools_transaction_holds_up_nobody_for_long(
    open_house: Open, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    paused, heir = await open_house(Point(EFFECT_WRITTEN, act="hold")), await open_house()
    model.script(Turn(ToolCall("create_project", {"name": "North"})), Turn("Done."))
    async with running(paused, tenant.token, body(user("Make it"), run="r")) as (before, response):
        reading = asyncio.create_task(read_on(before, response.aiter_raw()))
        run_id = response.headers["innkeeper-run-id"]
        await paused.reached[EFFECT_WRITTEN].wait()
        paused.signal(signal.SIGSTOP)
        assert await ended(owner, "r") == "succeeded"
        paused.signal(signal.SIGUSR1)
        paused.signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            await reading
    agrees(await followed(heir, tenant.token, run_id), before)
    assert await made(owner) == ["North"]
    [result] = [event for event in before.events if event["type"] == "TOOL_CALL_RESULT"]
    assert "North" in json.loads(result["content"])["name"]
