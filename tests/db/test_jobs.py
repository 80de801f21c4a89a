"""Adding jobs, and the door a job opens: what the database itself checks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.db import AsyncpgDriver

from db import job_queue
from db.database import Database
from db.ids import uuid7
from db.jobs import enqueue, enqueue_for
from server.jobs.queue import NAMES
from tests.conftest import House, Owner, Tenant, eventually
from tests.working import all_jobs

if TYPE_CHECKING:
    from db.database import Connection

pytestmark = pytest.mark.promise("GND-02")

WORKER = uuid4()
LEASE = timedelta(seconds=30)
WHOSE = "SELECT project_id, user_id, end_user_id, credential_id FROM ops.pgqueuer"


@pytest.fixture(name="ops")
async def _ops(database: Database) -> AsyncIterator[Connection]:
    async with database.ops_statements() as connection:
        yield connection


async def pick(
    ops: Connection,
    *,
    worker: UUID = WORKER,
    limit: int = 100,
    share: int = 100,
    after: UUID | None = None,
    most: int = 9,
) -> list[asyncpg.Record]:
    return await job_queue.pick(
        ops, worker, {"work": most}, limit=limit, share=share, lease=LEASE, running=[], after=after
    )


async def add(database: Database, tenant: Tenant, dedupe: str | None = None, at: datetime | None = None) -> int:
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        return await enqueue(connection, "work", {"file_id": uuid7()}, dedupe=dedupe, at=at)


async def test_the_tables_are_those_of_the_installed_pgqueuer(owner: Owner) -> None:
    plan = await Queries(AsyncpgDriver(owner), QueryBuilderEnvironment(NAMES)).plan_upgrade()
    assert (plan.statements, plan.notes) == ((), ())


async def test_a_job_belongs_to_the_tenant_of_its_transaction(database: Database, tenant: Tenant, owner: Owner) -> None:
    end_user = uuid7()
    await owner.execute(
        "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, 'them')", tenant.project_id, end_user
    )
    as_them = replace(tenant.principal, end_user_id=end_user)
    async with database.transaction(as_them, tenant.project_id) as connection:
        await enqueue(connection, "work", {"file_id": uuid7(), "part": 3})
    credential = tenant.principal.credential_id
    assert [tuple(row) for row in await owner.fetch(WHOSE)] == [
        (tenant.project_id, tenant.user_id, end_user, credential)
    ]


async def test_a_job_without_a_project_is_the_users(database: Database, tenant: Tenant, owner: Owner) -> None:
    async with database.transaction(tenant.principal) as connection:
        await enqueue(connection, "work", {})
    assert [tuple(row) for row in await owner.fetch(WHOSE)] == [
        (None, tenant.user_id, None, tenant.principal.credential_id)
    ]


async def test_a_job_exists_only_if_its_transaction_commits(database: Database, tenant: Tenant) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with database.transaction(tenant.principal, tenant.project_id) as connection:
            await enqueue(connection, "work", {})
            raise ZeroDivisionError
    assert await all_jobs(database) == []


async def test_nobody_adds_a_job_where_they_may_not_write(
    database: Database, tenant: Tenant, stranger: Tenant, house: House
) -> None:
    viewer = await house.member(tenant.project_id, "viewer")
    revoked = await house.principal(await house.key(tenant.user_id, read_only=True))
    for principal, project in ((viewer, tenant.project_id), (stranger.principal, tenant.project_id), (revoked, None)):
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with database.transaction(principal, project) as connection:
                await enqueue(connection, "work", {})
        # A read-only key's transaction refuses every write by itself.
        assert refused.value.sqlstate in ("42501", "25006")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.system() as connection:
            await enqueue(connection, "work", {})
    assert await all_jobs(database) == []


@pytest.mark.parametrize(
    "payload", ['{"to": "guest@example.com"}', '{"ids": []}', "[]", '{"body": {}}', '{"ok": true}']
)
async def test_a_payload_holds_ids_only(database: Database, tenant: Tenant, payload: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        async with database.transaction(tenant.principal, tenant.project_id) as connection:
            await connection.fetchval("SELECT ops.enqueue('work', $1::text::jsonb, NULL, NULL, NULL)", payload)


async def test_the_application_reaches_no_table_and_no_function_of_the_workers(
    database: Database, owner: Owner
) -> None:
    tables = await owner.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'ops'::regnamespace AND relkind = 'r'"
    )
    assert len(tables) == 6
    async with database.system() as app, database.ops_statements() as ops:
        for connection in (app, ops):
            for table in tables:
                for statement in ("SELECT * FROM {}", "DELETE FROM {}", "INSERT INTO {} DEFAULT VALUES"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement.format(table["name"]))
    functions = await owner.fetch(
        "SELECT p.proname, has_function_privilege('innkeeper_app', p.oid, 'EXECUTE') AS app,"
        " has_function_privilege('innkeeper_ops', p.oid, 'EXECUTE') AS ops FROM pg_proc p"
        " WHERE pronamespace = 'ops'::regnamespace"
    )
    assert {row["proname"] for row in functions if row["app"]} == {"enqueue", "enter_job", "finish_job"}
    assert {row["proname"] for row in functions if row["ops"]} == {
        "clean_jobs",
        "count_jobs",
        "count_workers",
        "enqueue_for",
        "fire_schedules",
        "leave",
        "list_jobs",
        "next_due",
        "pick_jobs",
        "progress_job",
        "renew_jobs",
        "retry_jobs",
        "settle_job",
        "total_jobs",
    }


async def test_a_key_answers_the_job_that_is_not_over(database: Database, tenant: Tenant, stranger: Tenant) -> None:
    first = await add(database, tenant, dedupe="sync", at=datetime.now(UTC) + timedelta(hours=1))
    assert await add(database, tenant, dedupe="sync") == first
    assert await add(database, tenant, dedupe="other") != first
    assert await add(database, stranger, dedupe="sync") != first
    # It comes no later than the earliest who asked.
    assert [job.state for job in await all_jobs(database)] == ["queued"] * 3


async def test_a_job_that_is_asked_for_while_it_runs_runs_once_more(
    database: Database, tenant: Tenant, ops: Connection
) -> None:
    job = await add(database, tenant, dedupe="sync")
    await pick(ops)
    assert await add(database, tenant, dedupe="sync") == job
    await job_queue.settle(ops, WORKER, job, "work", "done", seconds=0.1)

    again = await pick(ops)
    assert [row["attempts"] for row in again] == [1]
    await job_queue.settle(ops, WORKER, again[0]["id"], "work", "done", seconds=0.1)
    assert await all_jobs(database) == []


async def test_a_worker_enters_the_tenant_of_its_job_and_no_other(
    database: Database, tenant: Tenant, stranger: Tenant, ops: Connection
) -> None:
    mine, theirs = await add(database, tenant), await add(database, stranger)
    await pick(ops)
    projects = "SELECT id, readable_project() AS read, writable_project() AS written FROM projects"
    async with database.working(mine, WORKER, tenant.project_id) as connection:
        assert [tuple(row) for row in await connection.fetch(projects)] == [(tenant.project_id,) * 3]
        assert await connection.fetchval("SELECT administered_project()") is None
        # Whatever Python sets, the job decides.
        for setting, value in (
            ("app.project_id", stranger.project_id),
            ("app.job_id", theirs),
            ("app.worker_id", uuid4()),
            ("app.job_id", ""),
        ):
            await connection.execute("SAVEPOINT before")
            await connection.execute("SELECT set_config($1, $2, true)", setting, str(value))
            assert await connection.fetch(projects) == [], setting
            await connection.execute("ROLLBACK TO before")


async def test_a_job_that_is_not_the_workers_opens_nothing(database: Database, tenant: Tenant, ops: Connection) -> None:
    job = await add(database, tenant)

    async def refused(worker: UUID = WORKER, number: int = job) -> None:
        with pytest.raises(asyncpg.PostgresError) as lost:
            async with database.working(number, worker, tenant.project_id):
                raise AssertionError("the database let it in")
        assert job_queue.lost(lost.value)

    await refused()
    await pick(ops)
    await refused(worker=uuid4())
    await refused(number=job + 1)
    await job_queue.settle(ops, WORKER, job, "work", "dead", seconds=0.1)
    await refused()


async def test_a_job_bound_to_an_end_user_sees_only_theirs(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    mine, other = uuid7(), uuid7()
    for end_user in (mine, other):
        await owner.execute(
            "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, $3)",
            *(tenant.project_id, end_user, str(end_user)),
        )
        await owner.execute(
            "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'x')",
            *(tenant.project_id, uuid7(), end_user),
        )
    async with database.transaction(replace(tenant.principal, end_user_id=mine), tenant.project_id) as connection:
        job = await enqueue(connection, "work", {})
    await pick(ops)
    async with database.working(job, WORKER, tenant.project_id) as connection:
        await connection.execute("SELECT set_config('app.end_user_id', $1, true)", str(other))
        assert [row["end_user_id"] for row in await connection.fetch("SELECT end_user_id FROM threads")] == [mine]


async def test_a_job_of_an_account_acts_as_its_user_and_in_no_project(
    database: Database, tenant: Tenant, ops: Connection
) -> None:
    async with database.transaction(tenant.principal) as connection:
        job = await enqueue(connection, "work", {})
    await pick(ops)
    async with database.working(job, WORKER, tenant.user_id) as connection:
        assert [row["id"] for row in await connection.fetch("SELECT id FROM users")] == [tenant.user_id]
        await connection.execute("SELECT set_config('app.project_id', $1, true)", str(tenant.project_id))
        assert await connection.fetchval("SELECT readable_project()") is None


async def test_a_job_adds_jobs_of_its_own_tenant(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    job = await add(database, tenant)
    await pick(ops)
    async with database.working(job, WORKER, tenant.project_id) as connection:
        await enqueue(connection, "work", {})
    first, second = (tuple(row) for row in await owner.fetch(f"{WHOSE} ORDER BY id"))
    assert first == second


async def test_the_end_of_a_job_and_its_effect_are_one(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    job = await add(database, tenant)
    await pick(ops)
    with contextlib.suppress(ZeroDivisionError):
        async with database.working(job, WORKER, tenant.project_id) as connection:
            await connection.execute("SELECT ops.finish_job()")
            raise ZeroDivisionError
    async with database.working(job, WORKER, tenant.project_id) as connection:
        await connection.execute("SELECT ops.finish_job()")
        assert await connection.fetchval("SELECT readable_project()") is None
    # Its worker does not live to take it away: nobody gets it again.
    await owner.execute("UPDATE ops.pgqueuer SET heartbeat = now() - interval '1 hour'")
    assert await pick(ops, worker=uuid4()) == []
    assert await owner.fetchval("SELECT count(*) FROM ops.pgqueuer") == 0


async def test_a_deleted_project_takes_its_jobs_along(
    database: Database, tenant: Tenant, stranger: Tenant, ops: Connection, owner: Owner
) -> None:
    job, theirs = await add(database, tenant), await add(database, stranger)
    await pick(ops)
    await owner.execute("DELETE FROM projects WHERE id = $1", tenant.project_id)

    assert [job.id for job in await all_jobs(database)] == [theirs]
    with pytest.raises(asyncpg.PostgresError):
        async with database.working(job, WORKER, tenant.project_id):
            pass
    assert await job_queue.renew(ops, WORKER, [job, theirs]) == [job]
    assert await enqueue_for(ops, tenant.project_id, "work", {}) is None


async def test_a_project_is_deleted_after_what_its_jobs_have_begun_to_write(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    job = await add(database, tenant)
    await pick(ops)
    async with database.working(job, WORKER, tenant.project_id) as connection:
        deleting = asyncio.create_task(owner.execute("DELETE FROM projects WHERE id = $1", tenant.project_id))

        async def waits() -> bool:
            return bool(await ops.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(waits)
        await connection.execute(
            "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, 'x')", tenant.project_id, uuid7()
        )
    assert await deleting == "DELETE 1"
    assert await owner.fetchval("SELECT count(*) FROM threads") == 0


async def test_a_job_without_a_sign_of_life_is_picked_by_another_worker_and_fenced(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    job = await add(database, tenant)
    await pick(ops)
    other = uuid4()
    assert await pick(ops, worker=other) == []
    await owner.execute("UPDATE ops.pgqueuer SET heartbeat = now() - interval '1 hour'")
    async with database.working(job, WORKER, tenant.project_id):
        # What is in a transaction of its worker stays there until that ends.
        assert await pick(ops, worker=other) == []
    (taken,) = await pick(ops, worker=other)
    assert (taken["id"], taken["attempts"], taken["error_code"]) == (job, 2, "worker_lost")

    await job_queue.settle(ops, WORKER, job, "work", "done", seconds=0.1)
    assert [row.worker for row in await all_jobs(database)] == [other]
    with pytest.raises(asyncpg.PostgresError):
        async with database.working(job, WORKER, tenant.project_id):
            pass


async def test_a_job_that_takes_its_worker_down_each_time_is_dead_in_the_end(
    database: Database, tenant: Tenant, ops: Connection, owner: Owner
) -> None:
    await add(database, tenant)
    for _ in range(2):
        assert len(await pick(ops, most=2)) == 1
        await owner.execute("UPDATE ops.pgqueuer SET heartbeat = now() - interval '1 hour'")
    assert await pick(ops, most=2) == []
    (dead,) = await all_jobs(database)
    assert (dead.state, dead.error_code) == ("dead", "worker_lost")


async def test_lanes_take_turns_and_none_has_more_than_its_share(
    database: Database, tenant: Tenant, stranger: Tenant, ops: Connection
) -> None:
    for _ in range(20):
        await add(database, tenant)
    await add(database, stranger)
    await enqueue_for(ops, None, "work", {})

    picked = await pick(ops, limit=4, share=3)
    assert len(picked) == 4
    assert {row["lane"] for row in picked} == {UUID(int=0), tenant.project_id, stranger.project_id}
    assert len(await pick(ops, limit=10, share=3)) == 1
    assert await pick(ops, limit=10, share=3) == []
    # Another worker has a share of its own, and goes on behind the lane it took last.
    await add(database, stranger)
    first, second = sorted([tenant.project_id, stranger.project_id])
    other = uuid4()
    assert [row["lane"] for row in await pick(ops, worker=other, limit=1, after=first)] == [second]
    assert [row["lane"] for row in await pick(ops, worker=other, limit=1, after=second)] == [tenant.project_id]
