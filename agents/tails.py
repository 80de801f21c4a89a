"""Readers of a run's events: from memory where the run lives, from the database anywhere else, and back and forth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from agents import agui
from agents.event_log import EventLog
from agents.live_run import error_event
from agents.patience import PASSING, patiently
from agents.wakeups import POLL_SECONDS, Events, Found, Reading, Room, Wakeups
from db import credentials, events, runs
from db.database import Database
from db.errors import AppError
from db.principal import Principal

GONE: Final = AppError(
    "run_gone", 410, "This run was deleted, or may no longer be read with this key.", "Start a new run."
)
RECHECK_SECONDS: Final = 5.0
"""How long at least a reader may live on what others of its process read: then it looks with its own rights again."""


class Tail:
    """A place in a run's events. ``next`` until ``over``: every event was given, the terminal one last (``ended``), or
    this process ends before the run does, and the reader goes on elsewhere. ``gone``: what was given last is no event
    of the run, but says that there is nothing more for this reader."""

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
        self._looked_at = asyncio.get_running_loop().time()
        self._doubted = False
        self._shut = False
        self.gone = False
        self.ended = False
        wakeups.know(self)

    @property
    def over(self) -> bool:
        return self.ended or (self._wakeups.closed and not self._lives_here())

    async def next(self, seconds: float) -> Events:
        """Wait at most ``seconds`` for what follows; empty when nothing came, or when the database cannot say at the
        moment whether this reader may have it."""
        before = self._after
        try:
            return await self._following(seconds)
        except AppError as error:
            if not _passes(error):
                raise
            self._after, self.ended = before, False
            await asyncio.sleep(min(seconds, self._wakeups.patience))
            return []

    async def _following(self, seconds: float) -> Events:
        if self._doubted and await self._is_gone():
            return self._end()
        log = self._log = self._log or self._find()
        if log is not None and not (log.lost and not log.after(self._after)):
            found = await log.wait_after(self._after, seconds)
            if self._doubted and await self._is_gone():
                return self._end()
            self._forward(found)
            self.ended = log.ended and not log.after(self._after)
            return found
        return await self._from_database(seconds)

    def doubt(self, payload: str | None = None) -> None:
        """Ask whether this reader may still have it before anything more is handed out: at once if ``payload`` names
        them, and without one when there is next something to hand out."""
        if payload is None:
            self._doubted = True
        elif credentials.concerns(payload, self._principal):
            self._doubted = True
            self._shut = self._shut or credentials.ends_tokens(payload)
            if self._log is not None:
                self._log.stir()
            self._wakeups.told(str(self._run_id))

    async def _is_gone(self) -> bool:
        """Whether the caller sees the run no more. What lives in this process is otherwise read without asking."""
        if self._shut:
            return True
        self._doubted = False
        try:
            # All readers of a process may ask at once, as when its database comes back.
            return await patiently(self._unseen)
        except AppError:
            self._doubted = True
            raise

    async def _unseen(self) -> bool:
        async with self._database.transaction(self._principal, self._project_id, read_only=True) as connection:
            return await runs.find(connection, self._project_id, self._run_id) is None

    def _end(self) -> Events:
        """The run is gone, for this reader: nobody else will ever tell that it is over. The number is that of the last
        event they have, from which they may go on with another key."""
        self.ended = self.gone = True
        return [(self._after, agui.encode(error_event(GONE)))]

    def _lives_here(self) -> bool:
        return self._log is not None and not self._log.lost

    async def _from_database(self, seconds: float) -> Events:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        # Listening before reading: what is told in between is not missed.
        room = self._wakeups.enter(self._run_id)
        try:
            while True:
                news = room.changed
                if self._doubted and await self._is_gone():
                    return self._end()
                found = await self._read(room, clock())
                if self._doubted and await self._is_gone():
                    return self._end()
                left = until - clock()
                if found or self.over or left <= 0:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, self._wakeups.patience)):
                        await news.wait()
        finally:
            self._wakeups.leave(self._run_id)

    async def _read(self, room: Room, now: float) -> Events:
        reading = room.reading
        if reading is None or not self._will_do(reading, room, now):
            looking = asyncio.create_task(self._look(self._after), name=f"look-{self._run_id}")
            looking.add_done_callback(_heard)
            reading = room.reading = Reading(self._principal, room.version, now, self._after, looking)
            self._looked_at = now
        try:
            # Shielded: who began to look may leave, and others wait for what is found.
            found = await asyncio.shield(reading.found)
            if not found.there and reading.by != self._principal:
                # Whoever looked may see it no more, which says nothing of this reader.
                found = await self._look(self._after)
        except AppError as error:
            if not _passes(error):
                raise
            return []
        if not found.there:
            return self._end()
        following = [event for event in found.events if event[0] > self._after]
        if found.events and not following and len(found.events) == events.PAGE:
            room.reading = None
            return await self._read(room, now)
        self._forward(following)
        self.ended = found.last is not None and self._after >= found.last
        return following

    def _will_do(self, reading: Reading, room: Room, now: float) -> bool:
        """Whether what another reader of this process looked for is what this one would find now."""
        fresh = reading.version == room.version and now < reading.at + POLL_SECONDS and reading.after <= self._after
        return fresh and now < self._looked_at + max(RECHECK_SECONDS, self._wakeups.patience)

    async def _look(self, after: int) -> Found:
        async with self._database.transaction(self._principal, self._project_id, read_only=True) as connection:
            # The run first: its last number then never runs ahead of the events that are read after it.
            run = await runs.find(connection, self._project_id, self._run_id)
            found = await events.read(connection, self._project_id, self._run_id, after)
        live = run is not None and run.status in runs.LIVE
        return Found(found, run is not None, None if run is None or live else run.last_seq)

    def _forward(self, found: Events) -> None:
        if found:
            self._after = found[-1][0]


def _passes(error: AppError) -> bool:
    return error.code in PASSING or error.status == 503


def _heard(looking: asyncio.Task[Found]) -> None:
    """Who began to look may have left before it failed."""
    if not looking.cancelled():
        looking.exception()
