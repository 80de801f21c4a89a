"""Workers: what becomes of jobs, in the test's own event loop. Real processes that die: test_worker_process.py."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from db import job_queue, jobs
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.jobs import enqueue, enqueue_for
from server import telemetry
from server.jobs.catalog import JOBS
from server.jobs.figures import JobFigures
from server.jobs.job import Job, JobCall, RetryLater, exponential
from server.jobs.schedules import keep_schedules
from server.metrics import Metrics
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually, opened
from tests.server.test_app_spans import TRACE_ID, RecordingTracer
from tests.working import all_jobs, at_work, until_states
from tools.dispatch import Dispatch

pytestmark = pytest.mark.promise("GND-02")

AT_ONCE = (0.0, 0.0, 0.0)


async def add(database: Database, tenant: Tenant, kind: str = "work", at: datetime | None = None) -> int:
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        return await enqueue(connection, kind, {"file_id": tenant.project_id, "part": 3}, at=at)


async def make_thread(job: JobCall, name: str = "made by a job") -> None:
    """An effect that is visible, in one transaction with the job's end."""
    async with job.transaction() as connection:
        await connection.execute(
            "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, $3)", job.project_id, uuid7(), name
        )
        await job.finish(connection)


async def test_a_job_is_worked_off_inside_its_tenant(database: Database, tenant: Tenant, owner: Owner) -> None:
    calls: list[JobCall] = []

    async def handler(job: JobCall) -> None:
        calls.append(job)
        await make_thread(job)

    async with at_work(database, Job("work", handler)):
        number = await add(database, tenant)
        await until_states(database)
    (call,) = calls
    assert (call.id, call.kind, call.attempt) == (number, "work", 1)
    assert call.payload == {"file_id": tenant.project_id, "part": 3}
    assert call.uuid("file_id") == tenant.project_id
    assert (call.project_id, call.user_id, call.end_user_id) == (tenant.project_id, tenant.user_id, None)
    assert call.credential_id == tenant.principal.credential_id
    assert [row["project_id"] for row in await owner.fetch("SELECT project_id FROM threads")] == [tenant.project_id]


async def test_a_failed_attempt_is_repeated_until_it_succeeds(database: Database, tenant: Tenant, owner: Owner) -> None:
    attempts: list[int] = []

    async def handler(job: JobCall) -> None:
        attempts.append(job.attempt)
        if job.attempt < 3:
            raise AppError("mail_server_away", 503, "The mail server is away.", "Wait.", retryable=True)
        await make_thread(job)

    async with at_work(database, Job("work", handler, retries=AT_ONCE)):
        await add(database, tenant)
        await until_states(database)
    assert attempts == [1, 2, 3]
    assert await owner.fetchval("SELECT count(*) FROM threads") == 1


async def test_an_attempt_that_comes_before_the_one_before_is_put_away_is_not_overlooked(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, attempts = job_queue.settle, list[int]()

    async def handler(job: JobCall) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise AppError("away", 503, "Away.", "Wait.", retryable=True)

    async def settle_and_linger(*arguments: Any, **named: Any) -> None:
        await settle(*arguments, **named)

        async def comes_again() -> bool:
            return [job.attempts for job in await all_jobs(database)] != [1]

        await eventually(comes_again)

    monkeypatch.setattr(job_queue, "settle", settle_and_linger)
    async with at_work(database, Job("work", handler, retries=AT_ONCE)):
        await add(database, tenant)
        await until_states(database)
    assert attempts == [1, 2]


async def test_waits_between_attempts_grow_and_are_spread(database: Database, tenant: Tenant) -> None:
    assert exponential(2.0, times=5, most=100.0) == (2.0, 6.0, 18.0, 54.0, 100.0)

    async def handler(job: JobCall) -> None:
        raise AppError("away", 503, "Away.", "Wait.", retryable=True)

    async with at_work(database, Job("work", handler, retries=(100.0, 1000.0))):
        await add(database, tenant)
        (job,) = await until_states(database, "scheduled")
        assert 78 < (job.due_at - job.updated_at).total_seconds() < 122
        # An operator need not wait.
        async with database.ops() as ops:
            assert await job_queue.retry(ops, jobs=[job.id]) == [job.id]

        async def second() -> bool:
            return [row.attempts for row in await all_jobs(database) if row.state == "scheduled"] == [2]

        await eventually(second)
        (job,) = await all_jobs(database)
        assert 798 < (job.due_at - job.updated_at).total_seconds() < 1202


async def test_a_handler_may_say_when_to_try_again(database: Database, tenant: Tenant) -> None:
    async def handler(job: JobCall) -> None:
        raise RetryLater(500, AppError("quota", 429, "The provider wants a pause.", "Wait."))

    async with at_work(database, Job("work", handler, retries=AT_ONCE)):
        await add(database, tenant)
        (job,) = await until_states(database, "scheduled")
    assert 498 < (job.due_at - job.updated_at).total_seconds() < 502
    assert (job.error_code, job.error_message) == ("quota", "The provider wants a pause.")


async def test_what_cannot_succeed_is_dead_at_once_and_begins_anew_when_asked(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    mended = False

    async def handler(job: JobCall) -> None:
        if not mended:
            raise AppError("address_refused", 400, "The address is refused.", "Use another.")
        await make_thread(job)

    async with at_work(database, Job("work", handler, retries=AT_ONCE)):
        number = await add(database, tenant)
        (dead,) = await until_states(database, "dead")
        assert (dead.attempts, dead.error_code) == (1, "address_refused")
        mended = True
        async with database.ops() as ops:
            assert await job_queue.retry(ops, kind="another") == []
            assert await job_queue.retry(ops, kind="work") == [number]
        await until_states(database)
    assert await owner.fetchval("SELECT count(*) FROM threads") == 1


async def test_a_job_is_dead_after_its_last_attempt_and_says_nothing_of_the_crash(
    database: Database, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(job: JobCall) -> None:
        raise ValueError("the guest's own words")

    async with at_work(database, Job("work", handler, retries=(0.0,))):
        await add(database, tenant)
        (dead,) = await until_states(database, "dead")
    assert (dead.attempts, dead.error_code) == (2, "job_crashed")
    assert dead.error_message == "It failed with ValueError; the worker's log says more."
    assert "the guest's own words" in caplog.text


async def test_an_attempt_that_takes_too_long_is_ended(database: Database, tenant: Tenant) -> None:
    ended = asyncio.Event()

    async def handler(job: JobCall) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with at_work(database, Job("work", handler, retries=(), timeout=0.05)):
        await add(database, tenant)
        (dead,) = await until_states(database, "dead")
    assert ended.is_set()
    assert (dead.error_code, dead.error_message) == ("job_timed_out", "It did not end within 0.05 s.")


async def test_progress_is_seen_while_the_job_runs(database: Database, tenant: Tenant) -> None:
    go_on = asyncio.Event()

    async def handler(job: JobCall) -> None:
        await job.progress(3, 10)
        await go_on.wait()

    async with at_work(database, Job("work", handler)):
        await add(database, tenant)

        async def seen() -> bool:
            return [(job.progress_done, job.progress_total) for job in await all_jobs(database)] == [(3, 10)]

        await eventually(seen)
        go_on.set()
        await until_states(database)


async def test_a_job_comes_at_its_time(database: Database, tenant: Tenant) -> None:
    came: list[datetime] = []

    async def handler(job: JobCall) -> None:
        came.append(datetime.now(UTC))

    due = datetime.now(UTC) + timedelta(seconds=0.4)
    async with at_work(database, Job("work", handler)):
        await add(database, tenant, at=due)
        await until_states(database, "scheduled")
        await until_states(database)
    assert len(came) == 1
    assert came[0] >= due


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
    both = asyncio.Barrier(2)

    def job_of(name: str) -> Job:
        async def handler(job: JobCall) -> None:
            if not any(worker == name for worker, _ in worked):
                await both.wait()
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
        async with asyncio.timeout(10):
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
        async with asyncio.timeout(10):
            await cancelled.wait()
        (job,) = await all_jobs(database)
        assert (job.state, job.worker, job.error_code) == ("running", other, None)


async def test_a_scheduled_job_is_added_once_whatever_the_number_of_processes(
    database: Database, urls: DatabaseUrls, owner: Owner
) -> None:
    async def handler(job: JobCall) -> None:
        raise AssertionError("nobody works here")

    known_jobs = [Job("work", handler, schedule="* * * * *"), Job("other", handler, schedule="0 3 * * *")]
    async with opened(urls) as other:
        loops = [asyncio.create_task(keep_schedules(each, known_jobs)) for each in (database, other)]
        try:

            async def known() -> bool:
                return bool(await owner.fetchval("SELECT count(*) = 2 FROM ops.pgqueuer_schedules"))

            await eventually(known)
            assert await all_jobs(database) == []
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
        # A minute that passed while nobody was there counts once.
        await owner.execute(
            "UPDATE ops.pgqueuer_schedules SET next_run = now() - interval '1 h' WHERE entrypoint = 'work'"
        )
        loops = [asyncio.create_task(keep_schedules(each, known_jobs)) for each in (database, other) for _ in range(3)]
        try:
            await until_states(database, "queued")
            await asyncio.gather(*(asyncio.wait([loop], timeout=0.2) for loop in loops))
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
    assert [(row.kind, row.project_id, row.user_id) for row in await all_jobs(database)] == [("work", None, None)]
    assert await owner.fetchval("SELECT count(*) FROM ops.pgqueuer_schedules WHERE next_run > now()") == 2


async def test_metrics_show_the_queue_and_what_attempts_took_of_all_processes(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    async def handler(job: JobCall) -> None:
        if job.attempt == 1:
            raise AppError("away", 503, "Away.", "Wait.", retryable=True)

    async with at_work(database, Job("work", handler, retries=AT_ONCE)):
        await add(database, tenant)
        await until_states(database)
        for kind in ("waits", "waits", "died"):
            await add(database, tenant, kind)
        await owner.execute("UPDATE ops.pgqueuer SET status = 'failed' WHERE entrypoint = 'died'")
        metrics = Metrics()
        metrics.add_figures(JobFigures(database))
        assert "innkeeper_jobs{" not in metrics.render().decode()
        await metrics.read()
        lines = metrics.render().decode().splitlines()
    for line in (
        'innkeeper_jobs{kind="waits",state="queued"} 2.0',
        'innkeeper_jobs{kind="died",state="dead"} 1.0',
        "innkeeper_job_workers 1.0",
        'innkeeper_job_seconds_count{kind="work",outcome="done"} 1.0',
        'innkeeper_job_seconds_count{kind="work",outcome="retry"} 1.0',
        'innkeeper_job_seconds_bucket{kind="work",le="1800.0",outcome="done"} 1.0',
    ):
        assert line in lines
    assert any(line.startswith('innkeeper_job_oldest_seconds{kind="waits"} ') for line in lines)


async def test_a_job_is_a_consumer_span_under_the_trace_of_whoever_added_it(
    database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = RecordingTracer()
    for module in (telemetry, jobs):
        monkeypatch.setattr(module, "active", lambda: True)
    monkeypatch.setattr(telemetry, "tracer", tracer)

    async def handler(job: JobCall) -> None:
        """Done."""

    context = SpanContext(int(TRACE_ID, 16), 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        await add(database, tenant)
    async with at_work(database, Job("work", handler)):
        await until_states(database)
    ((name, kind, trace_id, _),) = tracer.started
    assert (name, kind, trace_id) == ("job work", SpanKind.CONSUMER, TRACE_ID)


@pytest.mark.promise("MCP-05")
async def test_the_clean_up_takes_away_what_has_had_its_time(
    database: Database, dispatch: Dispatch, tenant: Tenant, owner: Owner
) -> None:
    await dispatch.call(tenant.principal, "create_project", {"name": "old"}, idempotency_key="old")
    await owner.execute("UPDATE idempotency SET expires_at = now() - interval '1 second'")
    await dispatch.call(tenant.principal, "create_project", {"name": "new"}, idempotency_key="new")
    async with database.ops() as ops:
        await enqueue_for(ops, None, "clean_up", {})
    async with at_work(database, *JOBS):
        await until_states(database)
    assert [row["key"] for row in await owner.fetch("SELECT key FROM idempotency")] == ["new"]


async def test_jobs_of_a_kind_that_this_version_does_not_know_wait(database: Database) -> None:
    worked = asyncio.Event()

    async def handler(job: JobCall) -> None:
        worked.set()

    async with database.ops() as ops:
        await enqueue_for(ops, None, "later", {})
        await enqueue_for(ops, None, "work", {})
    async with at_work(database, Job("work", handler)):
        async with asyncio.timeout(10):
            await worked.wait()
        (job,) = await until_states(database, "queued")
    assert job.kind == "later"
