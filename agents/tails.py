"""Readers of a run's events: from memory where the run lives, from the database anywhere else, and back and forth."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID
from weakref import WeakSet

from agents import agui
from agents.event_log import EventLog
from agents.live_run import error_event
from agents.patience import PASSING
from db import credentials, events, runs
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
RECHECK_SECONDS: Final = 5.0
"""How long at least a reader may live on what others of its process read: then it looks with its own rights again."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database has of a run behind a place. ``last``: the number of its last event, once it has ended."""

    events: Events
    there: bool
    last: int | None


@dataclass(frozen=True, slots=True)
class _Reading:
    """A look into the database that readers of one run share. ``by``: with whose rights; ``version``: how much news
    there was when it began, at the loop's time ``at``."""

    by: Principal
    version: int
    at: float
    after: int
    found: asyncio.Task[_Found]


@dataclass(slots=True)
class _Room:
    """Where the readers of one run in this process wait for news of it: one event for all of them."""

    readers: int = 0
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reading: _Reading | None = None

    def tell(self) -> None:
        self.version += 1
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Wakeups:
    """Wakes the readers of a run when its process says that there is more. ``closed``: this process ends, and its
    readers go elsewhere; ``alone`` is set while there are none."""

    def __init__(self) -> None:
        self.closed = False
        self.heard = 0
        self.alone = asyncio.Event()
        self.alone.set()
        self._readers = 0
        self._listeners = 0
        self._rooms: defaultdict[UUID, _Room] = defaultdict(_Room)
        self._tails: WeakSet[Tail] = WeakSet()

    @property
    def patience(self) -> float:
        """For how many seconds a reader who hears nothing trusts that there is nothing."""
        return max(POLL_SECONDS, self._listeners / POLLS)

    def told(self, payload: str) -> None:
        """A notification of ``db.events.CHANNEL``."""
        if not self._rooms:
            return
        for run_id in payload.split(","):
            if room := self._rooms.get(UUID(run_id)):
                room.tell()

    def know(self, tail: Tail) -> None:
        """For as long as it is read, ``tail`` hears of what its reader loses."""
        self._tails.add(tail)

    def revoked(self, payload: str) -> None:
        """A notification of ``db.credentials.CHANNEL``: a key, a role or a membership may be lost."""
        self.heard += 1
        for tail in list(self._tails):
            tail.doubt(payload)

    def any_revoked(self) -> None:
        """Any such notification may have been missed."""
        self.heard += 1
        for tail in list(self._tails):
            tail.doubt()

    def close(self) -> None:
        """Send every reader away."""
        self.closed = True
        self.missed()

    def missed(self) -> None:
        """Any notification may have been missed: every reader looks for itself."""
        for room in self._rooms.values():
            room.tell()

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

    def enter(self, run_id: UUID) -> _Room:
        """Where news of the run is told from now on. ``leave`` must follow."""
        room = self._rooms[run_id]
        room.readers += 1
        self._listeners += 1
        return room

    def leave(self, run_id: UUID) -> None:
        """A reader less: without any, nothing of this run is listened for."""
        room = self._rooms[run_id]
        room.readers -= 1
        self._listeners -= 1
        if not room.readers:
            del self._rooms[run_id]


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
        """Wait at most ``seconds`` for what follows; empty when nothing came."""
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
            async with self._database.transaction(self._principal, self._project_id, read_only=True) as connection:
                return await runs.find(connection, self._project_id, self._run_id) is None
        except AppError:
            self._doubted = True
            raise

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

    async def _read(self, room: _Room, now: float) -> Events:
        reading = room.reading
        if reading is None or not self._will_do(reading, room, now):
            looking = asyncio.create_task(self._look(self._after), name=f"look-{self._run_id}")
            looking.add_done_callback(_heard)
            reading = room.reading = _Reading(self._principal, room.version, now, self._after, looking)
            self._looked_at = now
        try:
            # Shielded: who began to look may leave, and others wait for what is found.
            found = await asyncio.shield(reading.found)
            if not found.there and reading.by != self._principal:
                # Whoever looked may see it no more, which says nothing of this reader.
                found = await self._look(self._after)
        except AppError as error:
            if error.code not in PASSING and error.status != 503:
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

    def _will_do(self, reading: _Reading, room: _Room, now: float) -> bool:
        """Whether what another reader of this process looked for is what this one would find now."""
        fresh = reading.version == room.version and now < reading.at + POLL_SECONDS and reading.after <= self._after
        return fresh and now < self._looked_at + max(RECHECK_SECONDS, self._wakeups.patience)

    async def _look(self, after: int) -> _Found:
        async with self._database.transaction(self._principal, self._project_id, read_only=True) as connection:
            # The run first: its last number then never runs ahead of the events that are read after it.
            run = await runs.find(connection, self._project_id, self._run_id)
            found = await events.read(connection, self._project_id, self._run_id, after)
        live = run is not None and run.status in runs.LIVE
        return _Found(found, run is not None, None if run is None or live else run.last_seq)

    def _forward(self, found: Events) -> None:
        if found:
            self._after = found[-1][0]


def _heard(looking: asyncio.Task[_Found]) -> None:
    """Who began to look may have left before it failed."""
    if not looking.cancelled():
        looking.exception()
