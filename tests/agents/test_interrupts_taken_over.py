"""Interrupts of runs whose process ends, and of runs that another process goes on with."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel

from db.scopes import Scope
from tests.agents.asking import house_open, interrupted, resuming, sending, told
from tests.agents.inn import Inn, body, inn, orphan, rest, run, running, user
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Hang, ToolCall, Turn
from tests.server.approving import SENDING, sent
from tools.catalog import Catalog
from tools.contract import Caller, ProjectId, tool

__all__ = ["house_open"]

pytestmark = pytest.mark.promise("RUN-08")

GATES: list[Gate] = []
"""Where each call of ``hold`` stands, one after the other."""


class Held(BaseModel):
    held: bool = True


@tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def hold(call: Caller, project_id: ProjectId) -> Held:
    """Wait for the next gate to open."""
    await GATES.pop(0).passed()
    return Held()


async def test_an_interrupt_survives_its_process(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    async with inn(urls, model_url=model.base_url, catalog=SENDING) as first:
        [interrupt] = await interrupted(first, tenant, model, sending(tenant))
    async with inn(urls, model_url=model.base_url, catalog=SENDING) as second:
        stream = await run(second, tenant.token, resuming((interrupt, True)))
    assert stream.last["outcome"] == {"type": "success"}
    assert await sent(owner, tenant) == "ada;"


@pytest.mark.promise("RUN-05")
async def test_a_run_that_is_taken_over_while_it_asks_asks_once(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    async def asked() -> bool:
        found: bool = await owner.fetchval("SELECT EXISTS (SELECT FROM run_steps WHERE name LIKE 'tool:%')")
        return found

    first, second = Gate(), Gate()
    GATES[:] = [first, second]
    second.open()
    call, wait = sending(tenant), ToolCall("hold", {"project_id": str(tenant.project_id)})
    model.script(Turn(call, wait), Turn("Done."))
    catalog = Catalog((*SENDING.tools, hold), SENDING.resources)
    async with (
        inn(urls, model_url=model.base_url, catalog=catalog) as house,
        running(house, tenant.token, body(user("Send it"), thread="t")) as (stream, response),
    ):
        async with asyncio.timeout(60):
            await first.reached.wait()
            await eventually(asked)
            await orphan(owner)
            await rest(stream, response.aiter_raw())
        first.open()
        [interrupt] = stream.last["outcome"]["interrupts"]
        assert await owner.fetchval("SELECT id::text FROM approvals") == interrupt["id"]
        assert len(model.requests) == 1
        again = await run(house, tenant.token, resuming((interrupt, True)))
    assert again.last["outcome"] == {"type": "success"}
    assert set(told(model)) == {call.id, wait.id}
    assert await sent(owner, tenant) == "ada;"


@pytest.mark.promise("RUN-05")
async def test_a_resumed_run_that_is_taken_over_makes_the_call_once(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    call = sending(tenant)
    model.script(Turn(call), Turn("Hm", Hang()), Turn("Done."))
    paused = await run(house_open, tenant.token, body(user("Send it"), thread="t"))
    [interrupt] = paused.last["outcome"]["interrupts"]
    async with running(house_open, tenant.token, resuming((interrupt, True))) as (stream, response):
        async with asyncio.timeout(60):
            await model.requested(2)
            await orphan(owner)
            await rest(stream, response.aiter_raw())
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.types.count("TOOL_CALL_RESULT") == 1
    assert told(model) == {call.id: '{"sent":true}'}
    assert await sent(owner, tenant) == "ada;"
    stored = [json.loads(row["content"]) for row in await owner.fetch("SELECT content FROM messages ORDER BY position")]
    assert [message["kind"] for message in stored] == ["request", "response", "request", "response"]
