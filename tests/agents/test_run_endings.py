"""What ends a run and what does not: hanging up, cancelling, deleting, deadlines and lost connections."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from agents.leases import Leases
from agents.ledger import Ledger
from db import runs
from db.ids import uuid7
from db.spending import Verdict
from tests.agents.inn import Inn, body, ended, inn, run, running, speaking, until, user
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, Reset, Turn


@pytest.mark.promise("HOME-21")
async def test_a_dropped_connection_does_not_end_the_run(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Before ", gate, "and after."))
    asked = body(user("Hello"), run="r")
    async with running(house_open, tenant.token, asked) as (stream, response):
        await until(stream, response.aiter_raw(), "TEXT_MESSAGE_CONTENT")
    gate.open()
    assert await ended(owner, "r") == "succeeded"
    assert (await run(house_open, tenant.token, asked)).text == "Before and after."


@pytest.mark.promise("HOME-21")
async def test_a_dropped_connection_ends_the_run_when_the_client_asked_for_that(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Before ", Hang()))
    asked = body(user("Hello"), thread="t", run="r", forwardedProps={"innkeeper": {"onDisconnect": "cancel"}})
    async with running(house_open, tenant.token, asked) as (stream, response):
        await until(stream, response.aiter_raw(), "TEXT_MESSAGE_CONTENT")
    assert await ended(owner, "r") == "cancelled"
    replayed = await run(house_open, tenant.token, asked)
    assert replayed.types[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert replayed.last["outcome"] == {"type": "cancelled"}
    async with asyncio.timeout(60):
        await model.disconnected.wait()
    after = await run(house_open, tenant.token, body(user("Go on"), thread="t"))
    assert after.last["outcome"] == {"type": "success"}
    assert "Before " in str(model.requests[-1].body["messages"])


async def test_cancelling_reaches_a_run_on_another_process(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    async with (
        inn(urls, model_url=model.base_url) as other,
        running(house_open, tenant.token, body(user("Hello"), run="r")) as (stream, response),
    ):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        run_id = await owner.fetchval("SELECT id FROM runs")
        assert not await other.engine.cancel(tenant.principal, tenant.project_id, uuid7())
        assert await other.engine.cancel(tenant.principal, tenant.project_id, run_id)
        async with asyncio.timeout(60):
            async for data in chunks:
                stream.feed(data)
    assert stream.last["outcome"] == {"type": "cancelled"}


@pytest.mark.promise("HOME-21")
async def test_a_reader_on_another_process_that_hangs_up_ends_the_run_too_when_asked(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    asked = body(user("Hello"), run="r", forwardedProps={"innkeeper": {"onDisconnect": "cancel"}})
    async with (
        inn(urls, model_url=model.base_url) as other,
        running(house_open, tenant.token, asked) as (here, response),
    ):
        chunks = response.aiter_raw()
        await until(here, chunks, "TEXT_MESSAGE_CONTENT")
        async with running(other, tenant.token, asked) as (there, their_response):
            await until(there, their_response.aiter_raw(), "TEXT_MESSAGE_CONTENT")
        async for data in chunks:
            here.feed(data)
    assert here.last["outcome"] == {"type": "cancelled"}
    assert await ended(owner, "r") == "cancelled"


@pytest.mark.promise("RUN-05")
async def test_a_run_whose_end_meets_a_deadlock_keeps_what_was_said(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, refusals = runs.finish, [asyncpg.DeadlockDetectedError("waits in a circle")]

    async def unlucky(*end: Any) -> int | None:
        if refusals:
            raise refusals.pop()
        return await finish(*end)

    monkeypatch.setattr(runs, "finish", unlucky)
    model.script(Turn("Well said."))
    stream = await run(house_open, tenant.token, body(user("Hello")))
    assert (stream.last["type"], refusals) == ("RUN_FINISHED", [])
    assert await owner.fetchval("SELECT count(*) FROM messages WHERE content::text LIKE '%Well said.%'") == 1


@pytest.mark.promise("RUN-11")
async def test_a_run_that_is_deleted_just_before_it_asks_its_model_still_ends_its_stream(
    house_open: Inn, tenant: Tenant, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Ledger.meter

    async def deleted(self: Ledger, *run: Any) -> Verdict:
        await owner.execute("DELETE FROM projects")
        return await meter(self, *run)

    async def nothing(_self: Leases) -> None:
        """Nobody else finds it out."""

    monkeypatch.setattr(Ledger, "meter", deleted)
    monkeypatch.setattr(Leases, "_renew", nothing)
    await owner.execute("UPDATE projects SET monthly_usd = 1")
    async with asyncio.timeout(60):
        stream = await run(house_open, tenant.token, body(user("Hello")))
    assert stream.last["code"] == "run_gone"


@pytest.mark.promise("HOME-21")
async def test_a_run_that_is_deleted_with_its_project_still_ends_its_stream(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Hm", Hang()))
    async with running(house_open, tenant.token, body(user("Hello"))) as (stream, response):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        await owner.execute("DELETE FROM projects")
        async with asyncio.timeout(60):
            async for data in chunks:
                stream.feed(data)
    assert stream.last["code"] == "run_gone"
    assert stream.types.count("RUN_ERROR") == 1
    last = len(stream.ids) - 1
    assert stream.ids == [*range(1, last + 1), last], "which is no event of the log, so it has no number of its own"


async def test_deleting_a_project_asks_all_its_runs_to_stop(
    urls: DatabaseUrls, house_open: Inn, tenant: Tenant, stranger: Tenant, model: ScriptedModel
) -> None:
    gate = Gate()
    model.script(Turn("Hm", Hang()), Turn("Ha", gate))
    async with (
        inn(urls, model_url=model.base_url) as other,
        speaking(house_open, tenant.token, body(user("Hello"))) as (mine, chunks),
        speaking(house_open, stranger.token, body(user("Hello"))) as (theirs, their_chunks),
    ):
        await other.engine.cancel_project(tenant.principal, tenant.project_id)
        async with asyncio.timeout(60):
            async for data in chunks:
                mine.feed(data)
        gate.open()
        async for data in their_chunks:
            theirs.feed(data)
    assert mine.last["outcome"] == {"type": "cancelled"}
    assert theirs.last["outcome"] == {"type": "success"}


@pytest.mark.promise("HOME-21")
async def test_a_run_outlives_the_loss_of_every_database_connection(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, urls: DatabaseUrls, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Before ", gate, *(f"{number} " for number in range(200))))
    async with running(house_open, tenant.token, body(user("Hello"), run="r")) as (stream, response):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        superuser = await asyncpg.connect(urls.superuser)
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename IN ('innkeeper_app', 'innkeeper_ops')"
        )
        await superuser.close()
        gate.open()
        async with asyncio.timeout(60):
            async for data in chunks:
                stream.feed(data)
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.text == "Before " + "".join(f"{number} " for number in range(200))
    assert await owner.fetchval("SELECT count(*) FROM run_events") == len(stream.ids)


@pytest.mark.promise("HOME-21", "RUN-09")
async def test_a_run_over_its_deadline_ends_with_one_terminal_event(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await owner.execute("UPDATE agents SET limits = '{\"seconds\": 0.5}'")
    model.script(Turn("Hm", Hang()))
    stream = await run(house_open, tenant.token, body(user("Hello")))
    assert stream.last["code"] == "run_deadline_exceeded"
    assert [kind for kind in stream.types if kind in ("RUN_FINISHED", "RUN_ERROR")] == ["RUN_ERROR"]


@pytest.mark.promise("HOME-21")
async def test_a_model_that_breaks_off_leaves_one_terminal_event_and_its_partial_answer(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    model.script(Turn("Half of ", Reset()))
    stream = await run(house_open, tenant.token, body(user("Hello"), thread="t"))
    assert stream.types[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert stream.types.count("RUN_ERROR") == 1
    again = await run(house_open, tenant.token, body(user("Go on"), thread="t"))
    assert again.last["type"] == "RUN_FINISHED"
