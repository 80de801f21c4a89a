"""The one writer of a process: collects what all its runs say and commits it together.

An event is written at once when its run was quiet; deltas wait for at most ``event_log.WINDOW``. While one batch is
being committed the next one gathers, so the load itself sets the size of the batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Final
from uuid import UUID

import asyncpg

from agents.event_log import EventLog
from db import events, runs
from db.database import Database
from db.errors import AppError
from db.events import Batch
from db.runs import Ending

TELL_SECONDS: Final = 0.02
"""At most one NOTIFY in this time: each takes a lock on the whole database at commit."""

TOGETHER: Final = 0.005
AT_ONCE: Final = 64 * 1024
"""Bytes of one log that are put into words before others get their turn."""
RETRY_SECONDS: Final = 0.2
PASSING: Final = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
)
"""Faults of the moment, which say nothing of what is written."""
_log = logging.getLogger("innkeeper.agents")


class EventWriter:
    """``start`` once, ``stop`` at shutdown. Survives a database that goes away: nothing is lost, readers wait."""

    def __init__(self, database: Database, owner: UUID) -> None:
        self._database = database
        self._owner = owner
        self._due: dict[EventLog, float] = {}
        self._wake = asyncio.Event()
        self._untold: dict[UUID, None] = {}
        self._tell_at = 0.0
        self._flying: set[EventLog] = set()
        self._landed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.alone = asyncio.Lock()
        """Held by whatever locks the rows of many runs of this process: two at once would wait for each other, and
        PostgreSQL only finds that out after a second."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="innkeeper-event-writer")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def touch(self, log: EventLog, due: float) -> None:
        """Write ``log`` at loop time ``due`` at the latest."""
        if log.closing:
            return
        known = self._due.get(log)
        if known is None or due < known:
            self._due[log] = due
            self._wake.set()

    async def finish(self, log: EventLog, ending: Ending) -> None:
        """Write what is left of ``log`` together with the end of its run. Returns once committed, or fenced off."""
        log.closing = True
        self._due.pop(log, None)
        while log in self._flying:
            await self._landed.wait()
        loop = asyncio.get_running_loop()
        waits = False
        while not log.lost:
            batch = log.take(loop.time())
            if batch is None:
                raise RuntimeError("a run ends with a terminal event")
            try:
                async with self._database.system() as connection:
                    answer = await runs.finish(
                        connection,
                        self._owner,
                        log.project_id,
                        log.run_id,
                        log.epoch,
                        batch.first,
                        batch.events,
                        batch.steps,
                        ending,
                    )
            except (AppError, *PASSING) as error:
                if not waits:
                    code = error.code if isinstance(error, AppError) else error.sqlstate
                    _log.warning("the end of a run waits for the database (%s)", code)
                waits = True
                log.rewind(batch.first - 1)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except asyncpg.PostgresError:
                # What this run leaves behind cannot be stored; its end must be.
                _log.exception("a run's messages could not be stored", extra={"run": str(log.run_id)})
                log.rewind(batch.first - 1)
                if not ending.messages:
                    # Readers are told by whoever takes the run over.
                    log.lose()
                    raise
                ending = replace(ending, messages=())
                continue
            if answer is None:
                # The end itself tells other processes.
                self._untold.pop(log.run_id, None)
                log.confirm(batch)
                log.end()
                return
            if answer < 0:
                log.lose()
            else:
                log.rewind(answer)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wait(loop)
            now = loop.time()
            ready = [log for log, due in self._due.items() if due <= now + TOGETHER]
            tell: list[UUID] = []
            if now >= self._tell_at:
                tell = list(self._untold)[: events.TOLD_AT_ONCE]
            batches: dict[EventLog, Batch] = {}
            relaxed = True
            for log in ready:
                if self._due.pop(log, None) is None:
                    continue  # it was finished meanwhile
                relaxed = relaxed and log.relaxed
                batch = log.take(now)
                if batch is not None:
                    batches[log] = batch
                    self._flying.add(log)
                    if sum(map(len, batch.events)) > AT_ONCE:
                        await asyncio.sleep(0)
            if batches or tell:
                if batches and now >= self._tell_at:
                    tell += [log.run_id for log in batches][: events.TOLD_AT_ONCE - len(tell)]
                await self._write(batches, tell, relaxed, now)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._wake.clear()
            due = min(self._due.values(), default=None)
            if self._untold:
                due = self._tell_at if due is None else min(due, self._tell_at)
            if due is not None and due <= loop.time():
                return
            timer = None if due is None else loop.call_at(due, self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    async def _write(self, batches: dict[EventLog, Batch], tell: list[UUID], relaxed: bool, now: float) -> None:
        self._flying = set(batches)
        try:
            async with self.alone, self._database.system() as connection:
                refused = await events.append(
                    connection, self._owner, list(batches.values()), tell=tell, relaxed=relaxed
                )
        except Exception as error:  # noqa: BLE001  (whatever it was, the one writer of the process must go on)
            if not isinstance(error, AppError):
                _log.exception("events could not be written")
            for log, batch in batches.items():
                log.rewind(batch.first - 1)
                self.touch(log, now + RETRY_SECONDS)
            self._land()
            await asyncio.sleep(RETRY_SECONDS)
            return
        for run in tell:
            self._untold.pop(run, None)
        if tell:
            self._tell_at = now + TELL_SECONDS
        told = set(tell)
        for log, batch in batches.items():
            self._settle(log, batch, refused)
            if log.run_id not in told:
                self._untold[log.run_id] = None
        self._land()

    def _settle(self, log: EventLog, batch: Batch, refused: dict[UUID, int | None]) -> None:
        stands_at = refused.get(log.run_id, batch.last)
        if stands_at is None:
            log.lose()
        elif stands_at >= batch.last:
            # Also a batch whose first answer got lost on the way: it was written then.
            log.confirm(batch)
        else:
            log.rewind(stands_at)
            self.touch(log, 0.0)

    def _land(self) -> None:
        self._flying = set()
        landed, self._landed = self._landed, asyncio.Event()
        landed.set()
