"""Workers that share, stop, stand still or lose their database. Real processes that die: test_worker_process.py."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from db import job_queue
from db.database import Database
from db.ids import uuid7
from server.jobs.job import Job, JobCall
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually, opened
from tests.server.added_jobs import AT_ONCE, add, make_thread
from tests.working import all_jobs, at_work, until_states

pytestmark = pytest.mark.promise("GND-02")


async def test_a_database_that_drops_every_connection_costs_no_job_and_repeats_no_effect(
    database: Database, tenant: Tenant, urls: DatabaseUrls, owner: Owner
) -> None:
    begun = 0

    async def handler(job: JobCall) -> None:
        nonlocal begun
        begun += 1
        async with job.transaction() as connection:
            await connection.execute(
                "INSERT INTO threads (project_id, id, external_id, name) VALUES ($1, $2, $3, $4)",
                *(job.project_id, uuid7(), str(uuid7()), str(job.id)),
            )
            await job.finish(connection)

    async def half_way() -> bool:
        return begun >= 20

    superuser = await asyncpg.connect(urls.superuser)
    numbers = [await add(database, tenant) for _ in range(40)]
    try:
        async with at_work(database, Job("work", handler, retries=AT_ONCE), lease=1.0):
            await eventually(half_way)
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename IN ('innkeeper_app', 'innkeeper_ops')"
            )

            async def over() -> bool:
                return not await owner.fetchval("SELECT count(*) FROM ops.pgqueuer")

            await eventually(over)
    finally:
        await superuser.close()
    effects = await owner.fetch("SELECT name FROM threads")
    assert sorted(int(row["name"]) for row in effects) == numbers


async def test_two_workers_share_and_no_job_is_worked_on_twice(
    database: Database, tenant: Tenant, urls: DatabaseUrls
) -> None:
    worked: list[tuple[str, int]] = []
    begun = {"one": asyncio.Event(), "two": asyncio.Event()}

    def job_of(name: str) -> Job:
        async def handler(job: JobCall) -> None:
            begun[name].set()
            for each in begun.values():
                await each.wait()
            worked.append((name, job.id))

        return Job("work", handler)

    numbers = [await add(database, tenant) for _ in range(20)]
    async with (
        opened(urls) as other,
        at_work(database, job_of("one"), places=2),
        at_work(other, job_of("two"), places=2),
    ):
        await until_states(database)
    assert sorted(number for _, number in worked) == numbers
    assert {name for name, _ in worked} == {"one", "two"}


async def test_a_flood_of_one_tenant_leaves_places_for_another(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    stuck: list[UUID | None] = []
    served = asyncio.Event()
    let_go = asyncio.Event()

    async def handler(job: JobCall) -> None:
        if job.project_id == stranger.project_id:
            served.set()
            return
        stuck.append(job.project_id)
        await let_go.wait()

    async with at_work(database, Job("work", handler), places=4):
        for _ in range(30):
            await add(database, tenant)
        await add(database, stranger)
        async with asyncio.timeout(60):
            await served.wait()
        assert len(stuck) == 2
        let_go.set()
        await until_states(database)
    assert len(stuck) == 30


async def test_a_worker_with_one_place_works_for_projects_in_turns(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    worked: list[UUID | None] = []

    async def handler(job: JobCall) -> None:
        worked.append(job.project_id)

    for each in (tenant, stranger):
        for _ in range(3):
            await add(database, each)
    async with at_work(database, Job("work", handler), places=1):
        await until_states(database)
    assert worked == worked[:2] * 3
    assert set(worked) == {tenant.project_id, stranger.project_id}


async def test_jobs_of_a_deleted_project_end_without_an_effect(
    database: Database, tenant: Tenant, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    begun, deleted, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(job: JobCall) -> None:
        begun.set()
        await deleted.wait()
        over.set()
        await make_thread(job)
        raise AssertionError("the database let it in")

    async with at_work(database, Job("work", handler)):
        await add(database, tenant)
        await begun.wait()
        await owner.execute("DELETE FROM projects WHERE id = $1", tenant.project_id)
        deleted.set()
        await over.wait()
    assert await all_jobs(database) == []
    assert "AssertionError" not in caplog.text


async def test_what_is_not_done_when_a_worker_stops_is_given_back(database: Database, tenant: Tenant) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(job: JobCall) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with at_work(database, Job("work", handler)) as worker:
        await add(database, tenant)
        await begun.wait()
        await worker.drain(0.05)
        assert cancelled.is_set()
        (job,) = await all_jobs(database)
        assert (job.state, job.attempts, job.error_code) == ("queued", 0, None)
        async with database.ops() as ops:
            assert (await job_queue.workers(ops)).alive == 0


async def test_what_is_done_is_said_to_be_done_even_while_the_worker_stops(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, settling, go_on = job_queue.settle, asyncio.Event(), asyncio.Event()

    async def handler(job: JobCall) -> None:
        """Done, without an end of its own."""

    async def settle_later(*arguments: Any, **named: Any) -> None:
        settling.set()
        await go_on.wait()
        await settle(*arguments, **named)

    monkeypatch.setattr(job_queue, "settle", settle_later)
    async with at_work(database, Job("work", handler)) as worker:
        await add(database, tenant)
        await settling.wait()
        draining = asyncio.create_task(worker.drain(0))

        async def asked_to_stop() -> bool:
            return any(task.cancelling() for task in asyncio.all_tasks())

        await eventually(asked_to_stop)
        go_on.set()
        await draining
    assert await all_jobs(database) == []


async def test_a_job_that_goes_on_after_its_end_is_over_at_once(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    async def handler(job: JobCall) -> None:
        async with job.transaction() as connection:
            await job.finish(connection)
        async with job.transaction():
            raise AssertionError("there is no job any more")

    async with at_work(database, Job("work", handler), lease=300.0):
        await add(database, tenant)

        async def gone() -> bool:
            return not await owner.fetchval("SELECT count(*) FROM ops.pgqueuer")

        await eventually(gone)


async def test_a_stopping_worker_lets_what_runs_go_on_and_begins_nothing(database: Database, tenant: Tenant) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    attempts = 0

    async def handler(job: JobCall) -> None:
        nonlocal attempts
        attempts += 1
        begun.set()
        await go_on.wait()

    async with at_work(database, Job("work", handler), places=2) as worker:
        await add(database, tenant)
        await begun.wait()
        draining = asyncio.create_task(worker.drain(30))
        await asyncio.sleep(0)
        await add(database, tenant)
        go_on.set()
        await draining
        await until_states(database, "queued")
    assert attempts == 1


async def test_a_worker_that_stood_still_loses_its_job_and_stops_working_on_it(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(job: JobCall) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with at_work(database, Job("work", handler), lease=1.0):
        await add(database, tenant)
        await begun.wait()
        other = uuid4()
        await owner.execute("UPDATE ops.pgqueuer SET queue_manager_id = $1, heartbeat = now() + interval '1 h'", other)
        async with asyncio.timeout(60):
            await cancelled.wait()
        (job,) = await all_jobs(database)
        assert (job.state, job.worker, job.error_code) == ("running", other, None)
