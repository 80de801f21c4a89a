"""pgqueuer's ports on our functions: its loop works off a queue that no role of ours can read or write directly."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.models import Context, Job, TracebackRecord
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import JOB_STATUS, Channel, JobId, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.driver import NotifyCallback
from pgqueuer.ports.repository import EntrypointExecutionParameter

from db import job_queue
from db.errors import AppError

if TYPE_CHECKING:
    from db.database import Database

_log = logging.getLogger("innkeeper.jobs")

FOREVER: Final = timedelta(days=1)

# Every name is said, because pgqueuer takes those that are not from the environment.
NAMES: Final = DBSettings(
    prefix="",
    db_schema="ops",
    channel=Channel(job_queue.CHANNEL),
    function="fn_pgqueuer_changed",
    statistics_table="pgqueuer_statistics",
    queue_status_type="pgqueuer_status",
    queue_table="pgqueuer",
    queue_table_log="pgqueuer_log",
    trigger="tg_pgqueuer_changed",
    schedules_table="pgqueuer_schedules",
)


class PickedJob(Job):
    """A row of ``ops.pgqueuer``: pgqueuer's columns, and whose the job is."""

    project_id: UUID | None
    end_user_id: UUID | None
    user_id: UUID | None
    credential_id: UUID | None
    lane: UUID


class Wakes:
    """pgqueuer's driver: it hears notifications through the listening connection that the process has anyway."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._callbacks: list[NotifyCallback] = []
        self.shutdown = asyncio.Event()
        self.tm = TaskManager()

    async def listen(self) -> None:
        await self._database.listener.listen(job_queue.CHANNEL, self._deliver)

    def _deliver(self, payload: str) -> None:
        for callback in self._callbacks:
            callback(payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._callbacks = [callback]

    async def notify(self, channel: str, payload: str) -> None:
        async with self._database.ops_statements() as connection:
            await connection.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        raise NotImplementedError("the queue is reached through functions only")

    async def execute(self, query: str, *args: object) -> str:
        raise NotImplementedError("the queue is reached through functions only")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._callbacks = []


class Queue(Queries):
    """pgqueuer's repository for one worker: who may pick what is decided in the database (``ops.pick_jobs``).

    A database that cannot be reached has no work for now. What became of a job is settled by its attempt, so nothing
    that pgqueuer says about that is needed.
    """

    def __init__(
        self, database: Database, wakes: Wakes, worker: UUID, attempts: dict[str, int], places: int, lease: timedelta
    ) -> None:
        super().__init__(wakes, QueryBuilderEnvironment(NAMES))
        self._database = database
        self._worker = worker
        self._attempts = attempts
        self._places = places
        self._lease = lease
        self._after: UUID | None = None
        self._clock = asyncio.get_running_loop().time
        self._unreachable = False
        self._takes_over_from = 0.0
        self._unrenewed: set[JobId] = set()
        self.stopping: Callable[[], bool] = lambda: False
        self.running: Callable[[], Collection[int]] = tuple
        self.at_work: Callable[[], Mapping[JobId, Context]] = dict

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        running = list(self.running())
        try:
            async with self._database.ops_statements() as connection:
                rows = await job_queue.pick(
                    connection,
                    self._worker,
                    self._attempts,
                    limit=min(batch_size, self._places - len(running)),
                    share=max(1, self._places // 2),
                    lease=self._lease if self._clock() >= self._takes_over_from else FOREVER,
                    running=running,
                    after=self._after,
                )
                if self.stopping():
                    # Asked to stop while this was on its way: nothing more is begun.
                    for row in rows:
                        await job_queue.settle(
                            connection, self._worker, row["id"], row["entrypoint"], "back", seconds=0.0
                        )
                    return []
        except AppError as error:
            self._lose_sight(error)
            return []
        self._unreachable = False
        picked: list[Job] = [PickedJob.model_validate(dict(row)) for row in rows]
        if rows:
            self._after = rows[-1]["lane"]
        return picked

    def _lose_sight(self, error: AppError) -> None:
        """When the database comes back, living workers must have the time to renew before anyone takes over."""
        if not self._unreachable:
            _log.warning("no job can be picked: %s", error.message)
        self._unreachable = True
        self._takes_over_from = self._clock() + self._lease.total_seconds()

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Also ends the work on those that are another's by now."""
        at_work = self.at_work()
        self._unrenewed.update(job_ids)
        try:
            async with self._database.ops_statements() as connection:
                lost = await job_queue.renew(connection, self._worker, list(self._unrenewed))
        except AppError as error:
            self._lose_sight(error)
            return
        self._unrenewed.clear()
        for job in lost:
            if (context := at_work.get(JobId(job))) is not None:
                _log.warning("job %d is not this worker's any more", job)
                context.cancellation.cancel()

    async def next_deferred_eta(self, entrypoints: list[QueueEntrypoint]) -> timedelta | None:
        if self._unreachable or len(self.running()) >= self._places:
            return None
        with suppress(AppError):
            async with self._database.ops_statements() as connection:
                wait = await job_queue.next_due(connection, list(entrypoints))
                return None if wait is None else timedelta(seconds=max(0.0, wait))
        return None

    async def eligible_queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        return 0

    async def queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        return 0

    async def log_jobs(self, job_status: Sequence[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        """The attempts have said it."""

    async def has_table(self, table: str) -> bool:
        """The migrations made them all, and whoever starts a worker has checked the schema."""
        return True

    async def table_has_column(self, table: str, column: str) -> bool:
        return True

    async def table_has_index(self, table: str, index: str) -> bool:
        return True

    async def has_user_defined_enum(self, key: str, enum: str) -> bool:
        return True
