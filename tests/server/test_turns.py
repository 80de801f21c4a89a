"""So many at a time, the rest in line: for calls of a key and of a project, and for connections of the pool."""

from __future__ import annotations

import asyncio

import pytest

from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.turns import Turns
from tests.conftest import DatabaseUrls, Tenant

pytestmark = pytest.mark.promise("MCP-11")


async def test_the_first_go_on_the_next_wait_in_order_and_the_rest_are_refused_at_once() -> None:
    turns = Turns(2, 2, what="calls of a key")
    subject, order = uuid7(), []
    first, second = turns.of(subject), turns.of(subject)
    await first.take()
    await second.take()

    async def work(name: str) -> None:
        async with turns.of(subject):
            order.append(name)

    waiting = [asyncio.create_task(work(name)) for name in ("third", "fourth")]
    await asyncio.sleep(0)
    with pytest.raises(AppError, match="2 calls of a key at a time") as refused:
        await turns.of(subject).take()
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("too_many_at_once", 429, 1)
    async with turns.of(uuid7()):
        assert order == []
    first.give_back()
    first.give_back()
    await asyncio.gather(*waiting)
    assert order == ["third", "fourth"]
    assert turns.busy(subject) == 1
    second.give_back()
    assert turns.busy(subject) == 0


async def test_who_leaves_the_line_loses_no_place_of_those_behind() -> None:
    turns = Turns(1, 10, what="calls")
    subject = uuid7()
    first, last = turns.of(subject), turns.of(subject)
    await first.take()
    leavers = [asyncio.create_task(turns.of(subject).take()) for _ in range(3)]
    await asyncio.sleep(0)
    following = asyncio.create_task(last.take())
    await asyncio.sleep(0)
    leavers[0].cancel()
    await asyncio.sleep(0)
    # The second is handed the place in the moment it leaves, the third is cancelled where it stands.
    first.give_back()
    leavers[1].cancel()
    leavers[2].cancel()
    await asyncio.wait_for(following, 60)
    assert turns.busy(subject) == 1
    last.give_back()
    assert turns.busy(subject) == 0


async def test_a_line_that_does_not_move_ends_in_a_refusal() -> None:
    turns = Turns(1, 10, what="calls", seconds=0.01)
    subject = uuid7()
    async with turns.of(subject):
        with pytest.raises(AppError, match="calls at a time"):
            await turns.of(subject).take()
        assert turns.busy(subject) == 1


async def test_one_tenant_cannot_take_every_connection_of_the_pool(
    urls: DatabaseUrls, tenant: Tenant, stranger: Tenant
) -> None:
    database = await Database.open(urls.app, min_size=1, max_size=4)
    opened, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def hold() -> None:
        async with database.transaction(tenant.principal, tenant.project_id):
            opened.release()
            await go_on.wait()

    try:
        flood = [asyncio.create_task(hold()) for _ in range(20)]
        await opened.acquire()
        await opened.acquire()
        async with asyncio.timeout(60):
            async with database.transaction(stranger.principal, stranger.project_id) as connection:
                assert await connection.fetchval("SELECT count(*) FROM projects") == 1
            await database.read("read_project", stranger.principal, stranger.project_id)
            async with database.system() as connection:
                assert await connection.fetchval("SELECT 1") == 1
        go_on.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*flood)
    finally:
        await database.close()
