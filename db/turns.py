"""So many at a time for each of many subjects: the first go on, the next wait in line, the rest are refused.

A subject is whatever must not crowd out others: a key, a project, a user. Subjects without anyone cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Final
from uuid import UUID

from db.errors import AppError

WAIT_SECONDS: Final = 5.0


class Turns:
    """``places`` at a time, ``waiting`` more in line for ``seconds`` at most. ``what`` is counted, in the plural."""

    def __init__(self, places: int, waiting: int, *, what: str, seconds: float = WAIT_SECONDS) -> None:
        self.places = places
        self.waiting = waiting
        self.what = what
        self.seconds = seconds
        # By the number of the UUID: a UUID hashes in Python. Subjects with nobody are in neither.
        self._busy: dict[int, int] = {}
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    def of(self, subject: UUID) -> Turn:
        """A turn that is yet to be taken: ``async with``, or :meth:`Turn.take` and :meth:`Turn.give_back`."""
        return Turn(self, subject)

    def busy(self, subject: UUID) -> int:
        """How many of ``subject`` are going on."""
        return self._busy.get(subject.int, 0)

    def at_once(self, subject: UUID) -> bool:
        """Take a place if there is one without waiting."""
        busy = self._busy.get(subject.int, 0)
        if busy >= self.places:
            return False
        self._busy[subject.int] = busy + 1
        return True

    async def enter(self, subject: UUID) -> None:
        """Take a place. Raises ``AppError`` 429 when the line is full or does not move."""
        if self.at_once(subject):
            return
        line = self._waiting.setdefault(subject.int, deque())
        if len(line) >= self.waiting:
            raise self._crowded()
        mine = asyncio.get_running_loop().create_future()
        line.append(mine)
        try:
            async with asyncio.timeout(self.seconds):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                # The place came together with the reason to leave: it is the next one's.
                self.leave(subject)
            with contextlib.suppress(ValueError):
                line.remove(mine)
            if isinstance(error, TimeoutError):
                raise self._crowded() from None
            raise

    def leave(self, subject: UUID) -> None:
        """Give a place to the next in line."""
        line = self._waiting.get(subject.int)
        while line:
            following = line.popleft()
            if not following.done():
                following.set_result(None)
                return
        busy = self._busy[subject.int] - 1
        if busy:
            self._busy[subject.int] = busy
            return
        del self._busy[subject.int]
        self._waiting.pop(subject.int, None)

    def _crowded(self) -> AppError:
        line = ", and the line behind them is full or does not move" if self.waiting else ""
        return AppError(
            "too_many_at_once",
            429,
            f"This server works on {self.places} {self.what} at a time{line}.",
            "Wait for answers before you ask for more.",
            retryable=True,
            retry_after=1,
        )


class Turn:
    """One place of one subject, for the time between ``take`` and ``give_back``."""

    __slots__ = ("_subject", "_taken", "_turns")

    def __init__(self, turns: Turns, subject: UUID) -> None:
        self._turns = turns
        self._subject = subject
        self._taken = False

    def at_once(self) -> bool:
        """Take the place if that needs no waiting."""
        self._taken = self._turns.at_once(self._subject)
        return self._taken

    async def take(self) -> None:
        """Wait for the turn. Raises ``AppError`` 429 when too many wait before it."""
        await self._turns.enter(self._subject)
        self._taken = True

    def give_back(self) -> None:
        """May be called more than once, and without a place."""
        if self._taken:
            self._taken = False
            self._turns.leave(self._subject)

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()
