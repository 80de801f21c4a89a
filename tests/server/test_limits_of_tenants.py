"""Budgets over a real database: shared by processes, honest about when to come back, bounded without the database."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import timeit
from dataclasses import dataclass, field
from math import ceil

import asyncpg
import pytest

from db.budgets import Budget
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from server.limits import allowance
from server.limits.allowance import ANSWER_SECONDS
from server.limits.holdback import AT_ONCE, HOLD_SECONDS, MOST_OF_A_KEY
from server.limits.limits import Limits
from server.limits.rules import Rules, Share
from tests.conftest import DatabaseUrls, House, Owner, Tenant, opened

pytestmark = pytest.mark.promise("MCP-11")

NONE = Share(None, 0, 0)
# Refills so slowly that a test sees none of it: 500 requests, leased one at a time.
STILL = Budget(rate=0.001, burst=500)


class Slices(Budget):
    """Leased ten at a time, however slowly it refills."""

    slice = 10


@dataclass
class Clock:
    """Time that passes when a test says so, in this process and, for budgets, in the database."""

    owner: Owner
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def wait(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await self.owner.execute("UPDATE budgets SET spent_until = spent_until - make_interval(secs => $1)", seconds)


async def at_once(seconds: float) -> None:
    """No time goes by."""


async def spent(limits: Limits, tenant: Tenant, most: int) -> int:
    """How many of ``most`` requests of a key are let in."""
    for number in range(most):
        try:
            await limits.admit(tenant.principal)
        except AppError as error:
            if (error.code, error.status, error.retryable) != ("rate_limited", 429, True):
                raise
            return number
    return most


async def refusal(limits: Limits, tenant: Tenant) -> AppError:
    with pytest.raises(AppError) as refused:
        await limits.admit(tenant.principal)
    return refused.value


async def test_processes_together_let_in_what_the_budget_holds_and_at_most_a_slice_each_later(
    urls: DatabaseUrls, database: Database, tenant: Tenant, owner: Owner
) -> None:
    rules = Rules(Share(Slices(0.001, 500), 0, 0), NONE)
    async with opened(urls) as other:
        ours, theirs = Limits(database, rules), Limits(other, rules)
        # Each holds a slice and has spent one of it when the other has spent all that was left.
        assert await spent(theirs, tenant, 1) == 1
        assert await spent(ours, tenant, 10_000) == 500 - 10
        at_once = await asyncio.gather(spent(ours, tenant, 50), spent(theirs, tenant, 50))
        assert list(at_once) == [0, 10 - 1]
        assert await owner.fetchval("SELECT count(*) FROM budgets") == 1


async def test_two_processes_that_spend_at_once_never_exceed_the_budget_together(
    urls: DatabaseUrls, database: Database, tenant: Tenant
) -> None:
    rules = Rules(Share(STILL, 0, 0), NONE)
    async with opened(urls) as other:
        houses = [Limits(database, rules), Limits(other, rules)]
        let_in = await asyncio.gather(*(spent(house, tenant, 400) for house in houses for _ in range(4)))
    assert sum(let_in) == STILL.burst


@pytest.mark.parametrize("rate", [0.2, 3.0, 100.0])
async def test_who_waits_as_long_as_told_is_let_in(
    database: Database, tenant: Tenant, owner: Owner, rate: float
) -> None:
    clock = Clock(owner)
    limits = Limits(database, Rules(Share(Budget(rate, rate * 10), 0, 0), NONE), clock=clock)
    assert await spent(limits, tenant, 100_000) >= rate * 10 - 1

    for _ in range(3):
        told = await refusal(limits, tenant)
        assert told.retry_after is not None
        assert told.retry_after == max(1, ceil(Budget(rate, rate * 10).slice / rate))
        await clock.wait(told.retry_after)
        assert await spent(limits, tenant, 100_000) >= 1


async def test_a_key_that_has_spent_its_budget_takes_nothing_of_another(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    limits = Limits(database, Rules(Share(STILL, 0, 0), NONE))
    await spent(limits, tenant, 10_000)
    await refusal(limits, tenant)
    assert await spent(limits, stranger, 100) == 100


async def test_a_project_is_one_budget_for_all_its_keys_and_no_stranger_can_spend_it(
    database: Database, tenant: Tenant, stranger: Tenant, house: House
) -> None:
    limits = Limits(database, Rules(NONE, Share(Budget(0.001, 20), 0, 0)))
    member = await house.member(tenant.project_id, "viewer")
    for _ in range(40):
        async with limits.in_project(stranger.principal, tenant.project_id):
            pass
    for principal in [tenant.principal, member] * 10:
        async with limits.in_project(principal, tenant.project_id):
            pass
    for principal in (tenant.principal, member):
        with pytest.raises(AppError, match="This project has made its requests for now"):
            await limits.in_project(principal, tenant.project_id).__aenter__()
    async with limits.in_project(stranger.principal, stranger.project_id):
        pass


async def test_a_runs_own_calls_are_slowed_and_take_no_second_place(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    clock = Clock(owner)
    share = Share(Budget(10, 10), 1, 1)
    limits = Limits(database, Rules(share, share), clock=clock, sleep=clock.wait)
    grant = tenant.principal.for_run(uuid7(), depth=0, epoch=1)

    async with limits.place(tenant.principal, long=True), limits.place(tenant.principal):
        for _ in range(30):
            await limits.admit(grant)
            async with limits.place(grant), limits.place(grant, long=True):
                pass
            async with limits.in_project(grant, tenant.project_id):
                pass
    assert clock.slept
    assert max(clock.slept) <= 5
    assert (await refusal(limits, tenant)).retry_after == 1


async def test_without_the_database_a_process_lets_in_what_the_rate_allows_and_nobody_waits(
    urls: DatabaseUrls, tenant: Tenant, owner: Owner
) -> None:
    clock = Clock(owner)
    database = await Database.open(urls.app, ops_url=None)
    budget = Budget(100, 1000)
    limits = Limits(database, Rules(Share(budget, 0, 0), Share(budget, 4, 4)), clock=clock, sleep=at_once)
    try:
        let_in = 0
        for _ in range(100):
            let_in += await spent(limits, tenant, 10_000)
            clock.now += 0.1
        # Ten seconds of it, and the slice it begins with.
        assert 9 * budget.rate <= let_in <= 10 * budget.rate + budget.slice
        async with limits.in_project(tenant.principal, tenant.project_id):
            pass
    finally:
        await database.close()


async def test_a_database_that_does_not_answer_holds_nobody_for_long(
    urls: DatabaseUrls, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "ANSWER_SECONDS", ANSWER_SECONDS)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    database = await Database.open(urls.app, ops_url=f"postgresql://ops:secret@127.0.0.1:{port}/inn")
    share = Share(Budget(5, 50), 4, 4)
    limits = Limits(database, Rules(share, share))
    try:
        async with asyncio.timeout(10):  # each of them would wait a second if nothing were learnt from the first
            assert await spent(limits, tenant, 1000) >= 1
            for _ in range(10):
                async with limits.in_project(tenant.principal, tenant.project_id):
                    pass
        assert await spent(limits, tenant, 1000) <= 3 * 5
    finally:
        await database.close()
        silent.close()
        await silent.wait_closed()


async def test_what_was_off_is_never_counted(database: Database, tenant: Tenant, owner: Owner) -> None:
    limits = Limits(database, Rules(NONE, NONE))
    assert await spent(limits, tenant, 5000) == 5000
    async with limits.place(tenant.principal), limits.in_project(tenant.principal, tenant.project_id):
        pass
    assert await owner.fetchval("SELECT count(*) FROM budgets") == 0


async def test_budgets_that_have_long_been_full_are_forgotten(database: Database, tenant: Tenant, owner: Owner) -> None:
    await owner.executemany(
        "INSERT INTO budgets VALUES ($1, now() - make_interval(hours => $2))",
        [(uuid7(), hours) for hours in (25, 30, 23)],
    )
    await Limits(database, Rules(Share(STILL, 0, 0), NONE)).admit(tenant.principal)
    assert await owner.fetchval("SELECT count(*) FROM budgets") == 2


async def test_no_role_of_the_house_touches_budgets_but_through_the_function(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    async with database.ops() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT * FROM budgets")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(tenant.principal) as connection:
            await connection.execute("SELECT lease_budget($1, NULL, 1, 1, 1)", tenant.project_id)


async def test_to_count_a_request_costs_less_than_two_microseconds(database: Database, tenant: Tenant) -> None:
    limits = Limits(database, Rules(Share(Budget(1e6, 1e7), 0, 0), NONE))
    await limits.admit(tenant.principal)
    calls = 200

    def admit() -> None:
        with contextlib.suppress(StopIteration):
            limits.admit(tenant.principal).send(None)

    def nothing() -> None:
        with contextlib.suppress(StopIteration):
            empty().send(None)

    async def empty() -> None:
        return None

    # The best of many short rounds, for the others tell what else the machine had to do. Where even an empty coroutine
    # costs most of a microsecond, counting may cost three times as much again.
    cost, least = (min(timeit.repeat(work, number=calls, repeat=200)) / calls for work in (admit, nothing))
    assert cost < max(2e-6, 4 * least)


async def test_refusals_are_held_back_only_for_a_key_that_goes_on_after_many_of_them(
    database: Database, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    clock = Clock(owner)
    limits = Limits(database, Rules(Share(Budget(0.001, 1), 0, 0), NONE), clock=clock, sleep=clock.wait)
    assert (await spent(limits, tenant, 2), await spent(limits, stranger, 2)) == (1, 1)

    for _ in range(AT_ONCE - 1):
        await refusal(limits, tenant)
    assert clock.slept == []
    await refusal(limits, tenant)
    assert clock.slept == [HOLD_SECONDS]
    # Once a second is what Retry-After allows, and somebody else's refusals are their own.
    for _ in range(2 * AT_ONCE):
        await refusal(limits, tenant)
        clock.now += 1
    await refusal(limits, stranger)
    assert clock.slept == [HOLD_SECONDS]
    clock.now += AT_ONCE
    for _ in range(AT_ONCE):
        await refusal(limits, tenant)
    assert clock.slept == [HOLD_SECONDS]


async def test_a_held_refusal_keeps_no_place_and_only_so_many_are_held(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    end, held = asyncio.Event(), 0

    async def until_the_end(_seconds: float) -> None:
        nonlocal held
        held += 1
        await end.wait()

    rules = Rules(Share(Budget(0.001, 1), 1, 0), NONE)
    limits = Limits(database, rules, clock=Clock(owner), sleep=until_the_end)
    assert await spent(limits, tenant, 2) == 1
    more = 7
    refusals = [asyncio.create_task(refusal(limits, tenant)) for _ in range(AT_ONCE - 1 + MOST_OF_A_KEY + more)]
    for done in itertools.islice(asyncio.as_completed(refusals), AT_ONCE - 1 + more):
        assert (await done).code == "rate_limited"
    assert held == MOST_OF_A_KEY
    async with limits.place(tenant.principal):
        pass
    end.set()
    await asyncio.gather(*refusals)
    await refusal(limits, tenant)
    assert held == MOST_OF_A_KEY + 1
