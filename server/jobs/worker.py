"""A worker: pgqueuer's loop over our queue, the schedules, and an end that gives back what it does not finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.types import Channel, QueueManagerId

from db import job_queue
from db.errors import AppError
from server.jobs.attempt import Attempts
from server.jobs.catalog import JOBS
from server.jobs.job import Job
from server.jobs.queue import Queue, Wakes
from server.jobs.schedules import keep_schedules

if TYPE_CHECKING:
    from server.services import Services

POLL: Final = timedelta(seconds=1)
"""How often a worker looks for jobs whose worker died; for new ones it is woken."""
GIVE_BACK_SECONDS: Final = 5.0
RESTART_SECONDS: Final = 1.0
_log = logging.getLogger("innkeeper.jobs")


@dataclass(frozen=True, slots=True)
class WorkerRules:
    """``places``: jobs at a time. ``lease``: how long a job stays its worker's without a sign of life, in seconds."""

    places: int = 10
    lease: float = 4.0


class Worker:
    """Works off the queue from :meth:`start` to :meth:`drain`."""

    def __init__(self, services: Services, rules: WorkerRules, jobs: Sequence[Job] = JOBS) -> None:
        self._services = services
        self._rules = rules
        self._jobs = jobs
        self._wakes = Wakes(services.database)
        self._manager: QueueManager | None = None
        self._tasks: dict[int, asyncio.Task[object]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        await self._wakes.listen()
        self._loops = [
            asyncio.create_task(self._work(), name="jobs"),
            asyncio.create_task(keep_schedules(self._services.database, self._jobs), name="schedules"),
        ]

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, let those that run go on for ``seconds``, then give back the rest. May be repeated."""
        self._stopping = True
        if not self._loops:
            return
        working, scheduling = self._loops
        self._loops = []
        scheduling.cancel()
        if self._manager is not None:
            self._manager.shutdown.set()
        try:
            await asyncio.wait([working], timeout=seconds)
        finally:
            for task in list(self._tasks.values()):
                task.cancel()
            await asyncio.wait([working], timeout=GIVE_BACK_SECONDS)
            working.cancel()
            await asyncio.gather(working, scheduling, return_exceptions=True)

    async def _work(self) -> None:
        while not self._stopping:
            worker_id = uuid4()
            try:
                await self._loop(worker_id)
            except Exception:  # noqa: BLE001  whatever it was, jobs must be worked off
                _log.exception("the worker's loop failed; it begins anew")
                await asyncio.sleep(RESTART_SECONDS)
            finally:
                with contextlib.suppress(AppError):
                    async with self._services.database.ops_statements() as connection:
                        await job_queue.leave(connection, worker_id)

    async def _loop(self, worker_id: UUID) -> None:
        lease = timedelta(seconds=self._rules.lease)
        attempts = {job.kind: job.attempts for job in self._jobs}
        queue = Queue(self._services.database, self._wakes, worker_id, attempts, self._rules.places, lease)
        manager = QueueManager(queue, Channel(job_queue.CHANNEL))
        manager.queue_manager_id = QueueManagerId(worker_id)
        queue.stopping = manager.shutdown.is_set
        queue.running = lambda: self._tasks.keys() | manager.job_context.keys()
        queue.at_work = lambda: dict(manager.job_context)
        for job in self._jobs:
            attempts_at = Attempts(self._services, worker_id, job, self._tasks, manager.job_context)
            manager.register_executor(job.kind, attempts_at)
        self._manager = manager
        if self._stopping:
            return
        await manager.run(
            dequeue_timeout=POLL,
            batch_size=self._rules.places,
            heartbeat_timeout=lease,
            log_aggregation_interval=timedelta(0),
        )


@asynccontextmanager
async def working(
    services: Services, rules: WorkerRules = WorkerRules(), jobs: Sequence[Job] = JOBS
) -> AsyncIterator[Worker]:
    """A worker beside whatever else this process does. At the end, what was not drained is given back."""
    worker = Worker(services, rules, jobs)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.drain(0)
