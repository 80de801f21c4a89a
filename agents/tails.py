"""Readers of a run's events: from memory where the run lives, from the database anywhere else, and back and forth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias
from uuid import UUID

from agents import agui
from agents.event_log import EventLog
from agents.live_run import error_event
from db import events, runs
from db.database import Database
from db.errors import AppError
from db.principal import Principal

POLL_SECONDS: Final = 1.0
"""A net under the notifications: one may be missed while the listening connection is away."""
POLLS: Final = 100
"""How often a second the readers of a process look for themselves at most, all together."""

GONE: Final = AppError(
    "run_gone", 410, "This run was deleted, or may no longer be read with this key.", "Start a new run."
)
Events: TypeAlias = list[tuple[int, bytes]]


class Wakeups:
    """Wakes the readers of a run when its process says that there is more. ``closed``: this process ends, and its
    readers go elsewhere; ``alone`` is set while there are none."""

    def __init__(self) -> None:
        self.closed = False
        self.alone = asyncio.Event()
        self.alone.set()
        self._readers = 0
        self._listeners = 0
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    @property
    def patience(self) -> float:
        """For how many seconds a reader who hears nothing trusts that there is nothing."""
        return max(POLL_SECONDS, self._listeners / POLLS)

    def told(self, payload: str) -> None:
        """A notification of ``db.events.CHANNEL``."""
        if not self._waiting:
            return
        for run_id in payload.split(","):
            for event in self._waiting.get(UUID(run_id), ()):
                event.set()

    def close(self) -> None:
        """Send every reader away."""
        self.closed = True
        self.missed()

    def missed(self) -> None:
        """Any notification may have been missed: every reader looks for itself."""
        for waiting in self._waiting.values():
            for event in waiting:
                event.set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the whole time in which somebody reads a run."""
        self._readers += 1
        self.alone.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self.alone.set()

    @contextmanager
    def listening(self, run_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set at news of the run from now on."""
        news = asyncio.Event()
        self._waiting[run_id].add(news)
        self._listeners += 1
        try:
            yield news
        finally:
            self._listeners -= 1
            self._waiting[run_id].discard(news)
            if not self._waiting[run_id]:
                del self._waiting[run_id]


class Tail:
    """A place in a run's events. ``next`` until ``over``: every event was given, the terminal one last (``ended``), or
    this process ends before the run does, and the reader goes on elsewhere."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        local: Callable[[], EventLog | None],
        principal: Principal,
        project_id: UUID,
        run_id: UUID,
        after: int = 0,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._find = local
        self._log = local()
        self._principal = principal
        self._project_id = project_id
        self._run_id = run_id
        self._after = after
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or (self._wakeups.closed and not self._lives_here())

    async def next(self, seconds: float) -> Events:
        """Wait at most ``seconds`` for what follows; empty when nothing came."""
        log = self._log = self._log or self._find()
        if log is not None and not (log.lost and not log.after(self._after)):
            found = await log.wait_after(self._after, seconds)
            self._forward(found)
            self.ended = log.ended and not log.after(self._after)
            return found
        return await self._from_database(seconds)

    def _lives_here(self) -> bool:
        return self._log is not None and not self._log.lost

    async def _from_database(self, seconds: float) -> Events:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        # Listening before reading: what is told in between is not missed.
        with self._wakeups.listening(self._run_id) as news:
            while True:
                news.clear()
                found = await self._read()
                left = until - clock()
                if found or self.over or left <= 0:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, self._wakeups.patience)):
                        await news.wait()

    async def _read(self) -> Events:
        try:
            async with self._database.transaction(self._principal, self._project_id, read_only=True) as connection:
                # The run first: its last number then never runs ahead of the events that are read after it.
                run = await runs.find(connection, self._project_id, self._run_id)
                found = await events.read(connection, self._project_id, self._run_id, self._after)
        except AppError as error:
            if error.status != 503:
                raise
            return []
        if run is None:
            # Its log went with it, so nobody else will ever tell this reader that it is over.
            self.ended = True
            return [(self._after + 1, agui.encode(error_event(GONE)))]
        self._forward(found)
        self.ended = run.status not in runs.LIVE and self._after >= run.last_seq
        return found

    def _forward(self, found: Events) -> None:
        if found:
            self._after = found[-1][0]
