"""One attempt at a job: the handler under its deadline, and what becomes of the job after it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import UUID

from opentelemetry.trace import Span, StatusCode
from pgqueuer.core.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.domain.models import Context
from pgqueuer.domain.models import Job as QueuedJob
from pgqueuer.domain.types import JobId
from pydantic_core import from_json

from db import job_queue
from db.errors import AppError
from db.job_queue import JobLost, Outcome
from server.jobs.job import Job, JobCall, RetryLater
from server.jobs.queue import PickedJob
from server.logs import request_id
from server.telemetry import consumer_span

if TYPE_CHECKING:
    from server.services import Services

SETTLE_WAITS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
LONGEST_MESSAGE: Final = 500
_log = logging.getLogger("innkeeper.jobs")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``delay``: of a retry, in seconds; ``None`` takes the kind's next wait."""

    outcome: Outcome
    error: AppError | None = None
    delay: float | None = None


DONE: Final = Verdict("done")
BACK: Final = Verdict("back")


class Attempts(AbstractEntrypointExecutor):
    """pgqueuer's executor for one kind of job. It settles every job itself, whatever its handler does.

    ``tasks``: those at work, by job, until the job is settled. ``contexts``: the jobs that pgqueuer believes to have;
    one that comes again is ignored until it is out of there.
    """

    def __init__(
        self,
        services: Services,
        worker_id: UUID,
        job: Job,
        tasks: dict[int, asyncio.Task[object]],
        contexts: dict[JobId, Context],
    ) -> None:
        super().__init__(EntrypointExecutorParameters(concurrency_limit=0, func=_unused))
        self._services = services
        self._worker_id = worker_id
        self._job = job
        self._tasks = tasks
        self._contexts = contexts

    async def execute(self, job: QueuedJob, context: Context) -> None:
        if not isinstance(job, PickedJob):
            raise TypeError("the queue of ops.pick_jobs gives picked jobs")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("runs inside a task")
        self._tasks[job.id] = task
        request_id.set(f"job-{job.id}")
        started = monotonic()
        verdict = BACK
        try:
            with consumer_span(f"job {job.entrypoint}", _carrier(job)) as span:
                span.set_attributes({"job.id": job.id, "job.kind": job.entrypoint, "job.attempt": job.attempts})
                # Cancelled when the job is lost.
                with context.cancellation:
                    verdict = await self._judge(job)
                _mark(span, verdict)
        except asyncio.CancelledError:
            verdict = BACK
        self._contexts.pop(job.id, None)
        settling = asyncio.ensure_future(self._settle(job, verdict, monotonic() - started))
        try:
            await asyncio.shield(settling)
        except asyncio.CancelledError:
            # The worker stops: what has become of the job is said all the same.
            await settling
        finally:
            if self._tasks.get(job.id) is task:
                del self._tasks[job.id]

    async def _judge(self, job: PickedJob) -> Verdict:
        deadline = asyncio.timeout(self._job.timeout)
        try:
            async with deadline:
                await self._job.handler(self._call(job))
        except JobLost:
            # Over, another worker's, or nobody's: giving back what one does not have changes nothing.
            return BACK
        except RetryLater as later:
            return Verdict("retry", later.error, later.seconds)
        except AppError as error:
            return Verdict("retry" if error.retryable else "dead", error)
        except TimeoutError as error:
            if deadline.expired():
                return Verdict("retry", _timed_out(self._job.timeout))
            return self._crashed(job, error)
        except Exception as error:  # noqa: BLE001  whatever it was, the job must not be lost
            return self._crashed(job, error)
        return DONE

    def _crashed(self, job: PickedJob, error: Exception) -> Verdict:
        _log.error("job %d (%s) failed", job.id, job.entrypoint, exc_info=error)
        return Verdict("retry", _crash(error))

    def _call(self, job: PickedJob) -> JobCall:
        return JobCall(
            self._services,
            self._worker_id,
            id=job.id,
            kind=job.entrypoint,
            attempt=job.attempts,
            attempts=self._job.attempts,
            payload=_ids(job.payload or b"{}"),
            project_id=job.project_id,
            end_user_id=job.end_user_id,
            user_id=job.user_id,
            credential_id=job.credential_id,
        )

    async def _settle(self, job: PickedJob, verdict: Verdict, seconds: float) -> None:
        """Say it to the database, for as long as the lease may last. After that the job is somebody else's to judge."""
        verdict = self._last_attempt(job, verdict)
        delay = verdict.delay
        if verdict.outcome == "retry" and delay is None:
            delay = self._job.retries[job.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311  only spreads the work
        error = verdict.error
        if error is not None:
            said = "is dead" if verdict.outcome == "dead" else f"comes again in {delay:.0f} s"
            _log.warning("job %d (%s) %s: %s", job.id, job.entrypoint, said, error.code)
        for wait in (*SETTLE_WAITS, None):
            try:
                async with self._services.database.ops_statements() as connection:
                    await job_queue.settle(
                        connection,
                        self._worker_id,
                        job.id,
                        job.entrypoint,
                        verdict.outcome,
                        seconds=seconds,
                        delay=delay or 0.0,
                        code=error.code if error else None,
                        message=error.message[:LONGEST_MESSAGE] if error else None,
                    )
            except AppError as unsettled:
                if wait is None:
                    _log.error("job %d (%s) is not settled: %s", job.id, job.entrypoint, unsettled.message)
                    return
                await asyncio.sleep(wait)
            else:
                return

    def _last_attempt(self, job: PickedJob, verdict: Verdict) -> Verdict:
        if verdict.outcome == "retry" and job.attempts >= self._job.attempts:
            return Verdict("dead", verdict.error or _crash(None))
        return verdict


async def _unused(job: QueuedJob) -> None:
    """pgqueuer wants a function; :class:`Attempts` calls the handler itself."""


def _ids(payload: bytes) -> Mapping[str, UUID | int]:
    return {name: UUID(value) if isinstance(value, str) else value for name, value in from_json(payload).items()}


def _carrier(job: PickedJob) -> Mapping[str, str]:
    return {name: str(value) for name, value in (job.headers or {}).items()}


def _mark(span: Span, verdict: Verdict) -> None:
    span.set_attribute("job.outcome", verdict.outcome)
    if verdict.error is not None:
        span.set_attribute("error.type", verdict.error.code)
        span.set_status(StatusCode.ERROR)


def _timed_out(seconds: float) -> AppError:
    return AppError("job_timed_out", 504, f"It did not end within {seconds:g} s.", "It is tried again.", True)


def _crash(error: Exception | None) -> AppError:
    name = type(error).__name__ if error is not None else "nothing it said"
    return AppError("job_crashed", 500, f"It failed with {name}; the worker's log says more.", "Mend it, then retry.")
