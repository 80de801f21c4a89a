"""The queue in Prometheus' words. The numbers are the database's, so every process shows those of all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from db import job_queue
from db.errors import AppError
from db.job_queue import BUCKETS, Count, Total
from server.metrics import Figures

if TYPE_CHECKING:
    from db.database import Database

PATIENCE_SECONDS: Final = 2.0
_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")
_log = logging.getLogger("innkeeper.jobs")


class JobFigures(Figures):
    """Shown without numbers while the database, or an ops role, is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Sequence[Count] = ()
        self._totals: Sequence[Total] = ()
        self._alive: int | None = None

    async def read(self) -> None:
        self._counts, self._totals, self._alive = (), (), None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._database.ops() as connection:
                self._counts = await job_queue.counts(connection)
                self._totals = await job_queue.totals(connection)
                self._alive = (await job_queue.workers(connection)).alive
        except (AppError, TimeoutError) as error:
            _log.warning("the figures of jobs are missing: %s", type(error).__name__)

    def describe(self) -> Iterator[Metric]:
        """Named without being read."""
        yield from (_jobs(), _oldest(), _workers(), _seconds())

    def collect(self) -> Iterator[Metric]:
        jobs, oldest, workers, seconds = _jobs(), _oldest(), _workers(), _seconds()
        for count in self._counts:
            jobs.add_metric([count.kind, count.state], count.jobs)
            if count.state == "queued":
                oldest.add_metric([count.kind], count.oldest)
        if self._alive is not None:
            workers.add_metric([], self._alive)
        for total in self._totals:
            counted = zip(_BOUNDS, map(float, accumulate(total.buckets)), strict=True)
            seconds.add_metric([total.kind, total.outcome], list(counted), total.seconds)
        yield from (jobs, oldest, workers, seconds)


def _jobs() -> GaugeMetricFamily:
    return GaugeMetricFamily("innkeeper_jobs", "Jobs that are not over.", labels=["kind", "state"])


def _oldest() -> GaugeMetricFamily:
    said = "For how long the first job has been due that nobody has begun."
    return GaugeMetricFamily("innkeeper_job_oldest_seconds", said, labels=["kind"])


def _workers() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "innkeeper_job_workers", "Processes with a worker, seen in the last 15 seconds.", labels=[]
    )


def _seconds() -> HistogramMetricFamily:
    said = "Attempts at jobs, by what became of them."
    return HistogramMetricFamily("innkeeper_job_seconds", said, labels=["kind", "outcome"])
