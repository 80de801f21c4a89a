"""What somebody who is removed from a project had open there: their run is stopped, and no stream tells them more."""

from __future__ import annotations

import asyncio

import pytest

from db import members
from tests.agents.inn import Inn, body, ended, following, rest, running, until, user
from tests.conftest import House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Turn

pytestmark = pytest.mark.promise("IDN-30")


async def test_a_removed_members_run_stops_and_neither_they_nor_their_streams_hear_more(
    house_open: Inn, house: House, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate, project_id = Gate(), tenant.project_id
    member = await house.member(project_id, "member")
    token = await house.key(member.user_id)
    model.script(Turn("Before. ", gate, "A secret that came later."))
    async with running(house_open, tenant.token, body(user("Hello"), run="theirs"), project=project_id) as (boss, mine):
        mine_chunks = mine.aiter_raw()
        await until(boss, mine_chunks, "TEXT_MESSAGE_CONTENT")
        run_id = str(await owner.fetchval("SELECT id FROM runs WHERE external_id = 'theirs'"))
        async with following(house_open, token, run_id, project=project_id) as (reader, response):
            chunks = response.aiter_raw()
            await until(reader, chunks, "TEXT_MESSAGE_CONTENT")
            async with house_open.database.transaction(tenant.principal, project_id) as connection:
                assert await members.remove(connection, project_id, member.user_id)
            await heard(house_open)
            gate.open()
            await rest(reader, chunks)
        await rest(boss, mine_chunks)
    assert "A secret that came later." in boss.text
    assert boss.last["type"] == "RUN_FINISHED"
    assert "A secret" not in reader.text
    assert (reader.last["type"], reader.last["code"]) == ("RUN_ERROR", "run_gone")


async def test_a_run_of_a_removed_member_is_stopped(
    house_open: Inn, house: House, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    member = await house.member(tenant.project_id, "member")
    token = await house.key(member.user_id, project_id=tenant.project_id)
    model.script(Turn("Before. ", gate, "After."))
    async with running(house_open, token, body(user("Hello"), run="mine")) as (stream, response):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        async with house_open.database.transaction(tenant.principal, tenant.project_id) as connection:
            assert await members.remove(connection, tenant.project_id, member.user_id)
        await rest(stream, chunks)
    assert await ended(owner, "mine") == "cancelled"
    assert "After." not in stream.text
    gate.open()


async def heard(inn: Inn) -> None:
    """Everything that was told before this has been heard by the process."""
    said = asyncio.Event()
    await inn.database.listener.listen("innkeeper_test", lambda _payload: said.set())
    async with inn.database.system() as connection:
        await connection.execute("NOTIFY innkeeper_test")
    async with asyncio.timeout(60):
        await said.wait()
