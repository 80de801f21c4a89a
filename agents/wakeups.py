"""Where the readers of a process wait for news of runs, and share what one of them looked for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias
from uuid import UUID
from weakref import WeakSet

from db.principal import Principal

POLL_SECONDS: Final = 1.0
"""A net under the notifications: one may be missed while the listening connection is away."""
POLLS: Final = 100
"""How often a second the readers of a process look for themselves at most, all together."""

Events: TypeAlias = list[tuple[int, bytes]]


class Reader(Protocol):
    """A place in a run's events, which may be taken from whoever reads there: :class:`agents.tails.Tail`."""

    def doubt(self, payload: str | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What the database has of a run behind a place. ``last``: the number of its last event, once it has ended."""

    events: Events
    there: bool
    last: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A look into the database that readers of one run share. ``by``: with whose rights; ``version``: how much news
    there was when it began, at the loop's time ``at``."""

    by: Principal
    version: int
    at: float
    after: int
    found: asyncio.Task[Found]


@dataclass(slots=True)
class Room:
    """Where the readers of one run in this process wait for news of it: one event for all of them."""

    readers: int = 0
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reading: Reading | None = None

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
        self._rooms: defaultdict[UUID, Room] = defaultdict(Room)
        self._tails: WeakSet[Reader] = WeakSet()

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

    def know(self, tail: Reader) -> None:
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

    def enter(self, run_id: UUID) -> Room:
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
