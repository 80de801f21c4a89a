"""What becomes of jobs and of their attempts, in the test's own event loop."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from db import job_queue, jobs
from db.database import Database
from db.errors import AppError
from db.jobs import enqueue_for
from server import telemetry
from server.jobs.catalog import JOBS
from server.jobs.figures import JobFigures
from server.jobs.job import Job, JobCall, RetryLater, exponential
from server.jobs.schedules import keep_schedules
from server.metrics import Metrics
from tests.conftest import DatabaseUrls, Owner, Tenant, eventually, opened
from tests.server.added_jobs import AT_ONCE, add, make_thread
from tests.server.test_app_spans import TRACE_ID, RecordingTracer
from tests.working import all_jobs, at_work, until_states
from tools.dispatch import Dispatch

pytestmark = pytest.mark.promise("GND-02")


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
        await until_states(database)
    assert len(came) == 1
    assert came[0] >= due


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
        async with asyncio.timeout(60):
            await worked.wait()
        (job,) = await until_states(database, "queued")
    assert job.kind == "later"
