"""Whoever changes many runs at once waits for their rows in one order, so that no two of them wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import pytest

from db import events, run_leases
from db.database import Database
from db.events import Batch
from tests.conftest import Owner, Tenant, eventually, living_run

Change: TypeAlias = Callable[[Database, UUID, UUID, list[UUID]], Coroutine[Any, Any, None]]

LOADED: Final = "SET plan_cache_mode = force_generic_plan; SET enable_nestloop = off"
"""How a statement is planned that was made many times, and for many runs."""


async def append(database: Database, process: UUID, project_id: UUID, runs: list[UUID]) -> None:
    async with database.system() as connection:
        await connection.execute(LOADED)
        await events.append(connection, process, [Batch(project_id, run_id, 1, 1, [b"{}"]) for run_id in runs])


async def renew(database: Database, process: UUID, project_id: UUID, runs: list[UUID]) -> None:
    async with database.ops() as connection:
        await run_leases.renew_leases(connection, process, runs, timedelta(hours=1))


async def hand_over(database: Database, process: UUID, project_id: UUID, runs: list[UUID]) -> None:
    async with database.ops() as connection:
        await run_leases.hand_over(connection, process)


@pytest.mark.promise("RUN-05")
@pytest.mark.parametrize("change", [append, renew, hand_over])
async def test_rows_of_runs_are_locked_in_the_order_of_their_ids(
    database: Database, owner: Owner, tenant: Tenant, change: Change
) -> None:
    process = uuid4()
    runs = sorted([await living_run(owner, tenant) for _ in range(30)])
    for hours, run_id in enumerate(reversed(runs), 1):
        # They neither lie in this order nor do their leases end in it.
        await owner.execute(
            "UPDATE runs SET lease_owner = $1, lease_expires_at = now() + make_interval(hours => $2) WHERE id = $3",
            *(process, hours, run_id),
        )
    await owner.execute("ANALYZE runs")

    async def waits() -> bool:
        found: bool = await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return found

    async with owner.transaction():
        await owner.execute("SELECT FROM runs WHERE id = $1 FOR UPDATE", runs[14])
        changing = asyncio.create_task(change(database, process, tenant.project_id, runs))
        await eventually(waits)
        free = await owner.fetch("SELECT id FROM runs WHERE id <> $1 FOR UPDATE SKIP LOCKED", runs[14])
        assert {row["id"] for row in free} == set(runs[15:])
    await changing
