"""The runs that this process holds: those that go on here, and those it has claimed and is about to go on with."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.live_run import LiveRun

if TYPE_CHECKING:
    from agents.kit import Kit
    from agents.plan import Plan

MOST_ASKED: Final = 1000
"""How many runs are remembered of which somebody asked for the end, and which do not live here."""
_log = logging.getLogger("innkeeper.agents")


class LiveRuns:
    """By id. ``claimed``: with the epoch of their leases, the runs that are on their way here."""

    def __init__(self, writer: EventWriter) -> None:
        self.claimed: dict[UUID, int] = {}
        self._asked: dict[UUID, None] = {}
        self._writer = writer
        self._runs: dict[UUID, LiveRun] = {}
        self._ended_as: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._runs.values()))

    def find(self, run_id: UUID) -> LiveRun | None:
        return self._runs.get(run_id)

    def begin(self, kit: Kit, plan: Plan, log: EventLog) -> LiveRun:
        """Let a run go on from ``log``'s last event."""
        run = LiveRun(plan, kit.conversation(plan, log), log, self._writer)
        self._runs[plan.run_id] = run
        run.done.add_done_callback(lambda done: self._ended(run, done))
        if plan.run_id in self._asked:
            run.stop("asked")
        return run

    def held(self) -> dict[UUID, int]:
        """Whose leases are to be renewed, with their epochs."""
        return {**self.claimed, **{run_id: run.log.epoch for run_id, run in self._runs.items()}}

    def lost(self, run_id: UUID, epoch: int) -> None:
        """The lease of that epoch is another process's now."""
        if self.claimed.get(run_id) == epoch:
            del self.claimed[run_id]
        run = self._runs.get(run_id)
        if run is not None and run.log.epoch == epoch:
            run.lose()

    def cancel(self, run_id: UUID) -> None:
        """Somebody asked for its end."""
        run = self._runs.get(run_id)
        if run is not None:
            run.stop("asked")
            return
        # It may be on its way here, its row read before this was asked. Its lease would tell too, a second later.
        self._asked[run_id] = None
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]

    async def wait(self) -> None:
        """Return once none lives here."""
        while self._runs:
            await asyncio.wait([run.done for run in self])

    def states(self) -> dict[str, int]:
        """How many live here, and how many ended here in each state since this process started."""
        return {"live": len(self._runs), **self._ended_as}

    def _ended(self, run: LiveRun, done: asyncio.Task[None]) -> None:
        if self._runs.get(run.plan.run_id) is run:
            del self._runs[run.plan.run_id]
        if run.status is not None:
            self._ended_as[run.status] += 1
        if not done.cancelled() and done.exception() is not None:
            _log.error("a run's end failed", exc_info=done.exception(), extra={"run": str(run.plan.run_id)})
