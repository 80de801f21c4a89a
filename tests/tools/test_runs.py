"""Runs and threads over MCP's tools: against an engine of the same process that asks a scripted model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from db.errors import AppError
from db.ids import uuid7
from tests.agents.conftest import house_open, model
from tests.agents.inn import Inn, body, ended, run, user
from tests.conftest import House, Owner, Tenant, eventually, living_run
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn
from tools.dispatch import Dispatch
from tools.ports import Services

__all__ = ["house_open", "model"]
pytestmark = pytest.mark.promise("RUN-11")


@pytest_asyncio.fixture
async def dispatch(house_open: Inn) -> Dispatch:
    await house_open.engine.warm()
    return Dispatch(Services(house_open.database, house_open.engine))


async def do(dispatch: Dispatch, tenant: Tenant, tool: str, /, **given: Any) -> dict[str, Any]:
    given.setdefault("project_id", str(tenant.project_id))
    return (await dispatch.call(tenant.principal, tool, given)).structured


async def refused(dispatch: Dispatch, tenant: Tenant, tool: str, /, **given: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        await do(dispatch, tenant, tool, **given)
    return caught.value


async def test_a_run_is_started_waited_for_and_read(
    dispatch: Dispatch, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Look: ", ToolCall("list_projects", {}, id="c")), Turn("One project.", usage=(30, 4)))
    started = await do(dispatch, tenant, "start_run", message="How many projects?")
    found = await do(dispatch, tenant, "get_run", run_id=started["id"], wait_seconds=60)
    assert (found["status"], found["outcome"], found["agent"]) == ("succeeded", {"type": "success"}, "default")
    assert found["text"] == "Look: \n\nOne project."
    assert (found["requests"], found["tool_calls"]) == (2, 1)
    thread = await do(dispatch, tenant, "get_thread", thread_id=started["thread_id"])
    said = [part for message in thread["messages"][::-1] for part in message["parts"]]
    assert [(part["role"], part.get("content")) for part in said[:2]] == [
        ("user", "How many projects?"),
        ("assistant", "Look: "),
    ]
    assert said[2]["toolCallId"] == "c"
    again = await do(dispatch, tenant, "start_run", message="And now?", thread_id=started["thread_id"])
    await do(dispatch, tenant, "get_run", run_id=again["id"], wait_seconds=60)
    assert "How many projects?" in str(model.requests[-1].body["messages"])
    listed = await do(dispatch, tenant, "list_threads")
    assert [(row["id"], row["client_id"], row["run_id"], row["run_status"]) for row in listed["threads"]] == [
        (started["thread_id"], started["thread_id"], again["id"], "succeeded")
    ]


async def test_a_write_that_is_repeated_starts_one_run(
    dispatch: Dispatch, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    given = {"project_id": str(tenant.project_id), "message": "Hello"}
    first, again = [
        (await dispatch.call(tenant.principal, "start_run", given, idempotency_key="once")).structured for _ in range(2)
    ]
    assert first == again
    assert await owner.fetchval("SELECT count(*) FROM runs") == 1
    await do(dispatch, tenant, "get_run", run_id=first["id"], wait_seconds=60)
    assert len(model.requests) == 1


async def test_a_long_run_reports_its_progress_and_is_polled_after_a_lost_connection(
    dispatch: Dispatch, tenant: Tenant, model: ScriptedModel
) -> None:
    gate = Gate()
    model.script(Turn(ToolCall("list_projects", {})), Turn("Half", gate, " and whole."))
    started = await do(dispatch, tenant, "start_run", message="Work")
    heard: list[tuple[float, str | None]] = []

    async def listen(done: float, _total: float | None, doing: str | None) -> None:
        heard.append((done, doing))

    given = {"project_id": str(tenant.project_id), "run_id": started["id"], "wait_seconds": 60}
    waiting = asyncio.create_task(dispatch.call(tenant.principal, "get_run", given, progress=listen))
    await model.requested(2)
    await gate.reached.wait()
    waiting.cancel()

    async def polled() -> bool:
        found = await do(dispatch, tenant, "get_run", run_id=started["id"])
        return (found["status"], found["text"]) == ("running", "Half")

    await eventually(polled)
    gate.open()
    found = await do(dispatch, tenant, "get_run", run_id=started["id"], wait_seconds=60)
    assert (found["status"], found["text"]) == ("succeeded", "Half and whole.")
    assert [done for done, _doing in heard] == sorted({done for done, _doing in heard})
    assert heard


async def test_a_run_is_cancelled_by_who_may_write_only(
    dispatch: Dispatch, tenant: Tenant, house: House, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    started = await do(dispatch, tenant, "start_run", message="Hello")
    await model.requested()
    viewer = await house.member(tenant.project_id, "viewer")
    given = {"project_id": str(tenant.project_id), "run_id": started["id"]}
    with pytest.raises(AppError) as caught:
        await dispatch.call(viewer, "cancel_run", given)
    assert caught.value.code == "role_insufficient"
    with pytest.raises(AppError):
        await dispatch.call(viewer, "start_run", {"project_id": str(tenant.project_id), "message": "Hello"})
    await do(dispatch, tenant, "cancel_run", run_id=started["id"])
    assert await ended(owner, started["id"]) == "cancelled"
    assert (await do(dispatch, tenant, "cancel_run", run_id=started["id"]))["status"] == "cancelled"


async def test_a_busy_thread_refuses_a_run_unless_it_may_wait(
    dispatch: Dispatch, tenant: Tenant, model: ScriptedModel
) -> None:
    gate = Gate()
    model.script(Turn("One", gate), Turn("Two"))
    first = await do(dispatch, tenant, "start_run", message="First")
    await model.requested()
    again = {"message": "Second", "thread_id": first["thread_id"]}
    busy = await refused(dispatch, tenant, "start_run", **again)
    assert (busy.code, first["thread_id"] in busy.message) == ("thread_busy", True)
    assert "on_busy: 'enqueue'" in str(busy.hint)
    second = await do(dispatch, tenant, "start_run", **again, on_busy="enqueue")
    assert (await do(dispatch, tenant, "get_run", run_id=second["id"]))["status"] == "queued"
    gate.open()
    assert (await do(dispatch, tenant, "get_run", run_id=second["id"], wait_seconds=60))["text"] == "Two"
    assert (await refused(dispatch, tenant, "start_run", message="x", agent="nobody")).code == "agent_not_found"
    assert (
        await refused(dispatch, tenant, "start_run", message="x", thread_id=str(uuid7()))
    ).code == "thread_not_found"


async def test_why_a_run_failed_is_said_in_words(
    dispatch: Dispatch, tenant: Tenant, owner: Owner, model: ScriptedModel
) -> None:
    await owner.execute("UPDATE projects SET model = 'gpt-9' WHERE id = $1", tenant.project_id)
    started = await do(dispatch, tenant, "start_run", message="Hello")
    found = await do(dispatch, tenant, "get_run", run_id=started["id"], wait_seconds=60)
    assert (found["status"], found["error_code"]) == ("failed", "model_not_supported")
    assert found["error"].startswith("The model id 'gpt-9' names no provider. Supported now: openai:NAME")


async def test_threads_and_messages_are_paged_newest_first_without_gap_or_repeat(
    dispatch: Dispatch, tenant: Tenant, owner: Owner, model: ScriptedModel
) -> None:
    started = await do(dispatch, tenant, "start_run", message="Hello")
    await do(dispatch, tenant, "get_run", run_id=started["id"], wait_seconds=60)
    await owner.execute(
        "INSERT INTO messages (project_id, id, thread_id, run_id, position, role, content)"
        " SELECT m.project_id, gen_random_uuid(), m.thread_id, m.run_id, m.position + n, m.role, m.content"
        " FROM (SELECT * FROM messages ORDER BY position DESC LIMIT 1) m, generate_series(1, 60) n"
    )
    await owner.execute(
        "INSERT INTO threads (project_id, id, external_id)"
        " SELECT $1, gen_random_uuid(), n::text FROM generate_series(1, 60) n",
        tenant.project_id,
    )
    cursor: dict[str, str] = {}
    for tool, rows, more, count in (
        ("list_threads", "threads", {}, 61),
        ("get_thread", "messages", {"thread_id": started["thread_id"]}, 62),
    ):
        seen: list[str] = []
        cursor = {}
        while True:
            page = await do(dispatch, tenant, tool, **more, **cursor)
            seen += [row["id"] for row in page[rows]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert len(seen) == len(set(seen)) == count
    other = await do(dispatch, tenant, "start_run", message="Something else")
    error = await refused(dispatch, tenant, "get_thread", thread_id=other["thread_id"], **cursor)
    assert error.code == "invalid_cursor"


async def test_a_deleted_thread_takes_its_runs_with_it_also_those_that_go_on(
    dispatch: Dispatch, tenant: Tenant, model: ScriptedModel, owner: Owner, unasked: None
) -> None:
    model.script(Turn("Hm", Hang()))
    started = await do(dispatch, tenant, "start_run", message="Hello")
    await model.requested()
    await do(dispatch, tenant, "delete_thread", thread_id=started["thread_id"])
    async with asyncio.timeout(60):
        await model.disconnected.wait()
    for table in ("threads", "runs", "messages", "run_events", "run_steps"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert (await refused(dispatch, tenant, "get_run", run_id=started["id"])).code == "run_not_found"


@pytest.mark.parametrize("asked", ["Delete it", "Have it deleted"])
async def test_a_run_may_delete_the_project_it_works_in(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, unasked: None, asked: str
) -> None:
    async def is_gone() -> bool:
        return bool(await owner.fetchval("SELECT count(*) = 0 FROM projects"))

    given = {"project_id": str(tenant.project_id)}
    model.play("Have it deleted", Turn(ToolCall("start_run", {**given, "message": "Delete it"})), Turn("Hm", Hang()))
    model.play("Delete it", Turn(ToolCall("delete_project", given)), Turn("Gone."))
    stream = await run(house_open, tenant.token, body(user(asked), run="last"))
    await eventually(is_gone)
    assert stream.last.get("code") == "run_gone" or stream.last["outcome"] == {"type": "cancelled"}


async def test_an_agent_starts_a_run_and_waits_for_it_but_runs_do_not_nest_without_end(
    dispatch: Dispatch, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    given = {"project_id": str(tenant.project_id)}
    inner = ToolCall("start_run", {**given, "message": "Inner"})
    model.script(Turn(inner), Turn("Inner answer."))
    stream = await run(house_open, tenant.token, body(user("Outer"), run="outer"))
    assert stream.last["outcome"] == {"type": "success"}
    rows = await owner.fetch("SELECT id, external_id, depth, parent_id FROM runs ORDER BY created_at")
    assert [row["depth"] for row in rows] == [1, 2]
    assert rows[1]["parent_id"] == rows[0]["id"]
    await do(dispatch, tenant, "get_run", run_id=str(rows[1]["id"]), wait_seconds=60)
    deep = tenant.principal.for_run(await living_run(owner, tenant), depth=3, epoch=1)
    with pytest.raises(AppError) as caught:
        await dispatch.call(deep, "start_run", {**given, "message": "Deeper"})
    assert caught.value.code == "runs_too_deep"
