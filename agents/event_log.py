"""One run's events in the process that runs it: taken in, written by the writer, and only then seen by readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from agents import agui
from agents.agui import Event
from db.events import PAGE, Batch

WINDOW: Final = 0.03
"""Seconds in which deltas are collected; the first one after a pause does not wait."""


@dataclass
class _Pieces:
    """Consecutive deltas of one message or call, joined when they are written."""

    kind: str
    of: str
    texts: list[str] = field(default_factory=list)


class Drawing(Protocol):
    """Something that changes as it is streamed, and is told when it is written."""

    def drawn(self) -> Event | None:
        """What has changed since this was asked the last time."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A finished step on its way to the journal. ``kept`` is set once it is there, or never will be."""

    name: str
    value: bytes
    kept: asyncio.Event = field(default_factory=asyncio.Event)


class EventLog:
    """Numbered from 1. ``touch(log, due)`` asks the writer to write it at loop time ``due`` at the latest.

    ``frames``: the events there are already, all committed. Everything of a live run stays in memory: readers here
    never ask the database, and what the database lost in a crash is written again. A step goes to the journal in the
    transaction of the events that came before its end.
    """

    def __init__(
        self,
        project_id: UUID,
        run_id: UUID,
        epoch: int,
        frames: Sequence[bytes],
        touch: Callable[[EventLog, float], None],
    ) -> None:
        self.project_id = project_id
        self.run_id = run_id
        self.epoch = epoch
        self.closing = False
        self.ended = False
        self.lost = False
        self.relaxed = True
        self._touch = touch
        self._frames: list[bytes] = list(frames)
        self._pending: list[Event | _Pieces | Drawing] = []
        self._taken = len(self._frames)
        self._committed = len(self._frames)
        self._steps: list[_Step] = []
        self._steps_taken = 0
        self._written_at = 0.0
        self._changed = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether no further event will ever be readable here."""
        return self.ended or self.lost

    def emit(self, event: Event) -> None:
        """Add an event that is to be written now, or soon where nobody waits for one of its kind."""
        self._pending.append(event)
        if event["type"] not in agui.RELAXED:
            self.relaxed = False
        self._touch(self, self._soon() if event["type"] in agui.UNHURRIED else 0.0)

    def delta(self, kind: str, of: str, text: str) -> None:
        """Add a piece of a message or call; pieces are joined for ``WINDOW`` seconds."""
        last = self._pending[-1] if self._pending else None
        if isinstance(last, _Pieces) and last.kind == kind and last.of == of:
            last.texts.append(text)
        else:
            self._pending.append(_Pieces(kind, of, [text]))
        self._touch(self, self._soon())

    def draw(self, drawing: Drawing) -> None:
        """Tell what has changed of ``drawing``, as with pieces: all that changes for ``WINDOW`` seconds together."""
        if not self._pending or self._pending[-1] is not drawing:
            self._pending.append(drawing)
        self._touch(self, self._soon())

    def step(self, name: str, value: bytes, *, urgent: bool = True) -> asyncio.Event:
        """Add a finished step, to be written now if it is ``urgent``, else soon, or with the end of the run. The event
        is set once it is committed, or once the lease is ``lost``."""
        step = _Step(name, value)
        if self.finished:
            step.kept.set()
            return step.kept
        self._steps.append(step)
        self.relaxed = False
        self._touch(self, 0.0 if urgent else self._soon())
        return step.kept

    def take(self, now: float) -> Batch | None:
        """What is to be written next, or None; ``confirm`` or ``rewind`` must follow."""
        for item in self._pending:
            event = _event(item)
            if event is not None:
                self._frames.append(agui.encode(event))
        self._pending.clear()
        self.relaxed = True
        self._written_at = now
        if self._taken == len(self._frames) and self._steps_taken == len(self._steps):
            return None
        steps = [(step.name, step.value) for step in self._steps[self._steps_taken :]]
        events = self._frames[self._taken :]
        batch = Batch(self.project_id, self.run_id, self.epoch, self._taken + 1, events, steps)
        self._taken = len(self._frames)
        self._steps_taken = len(self._steps)
        return batch

    def confirm(self, batch: Batch) -> None:
        """``batch`` is committed: readers may see it."""
        done = len(batch.steps)
        for step in self._steps[:done]:
            step.kept.set()
        del self._steps[:done]
        self._steps_taken -= done
        if batch.last > self._committed:
            self._committed = batch.last
            self._wake()

    def rewind(self, last_seq: int) -> None:
        """The database has events up to ``last_seq`` only; the next ``take`` starts behind them."""
        self._taken = min(self._taken, max(last_seq, 0))
        self._steps_taken = 0
        self.relaxed = False

    def end(self) -> None:
        """The terminal event is committed."""
        self.ended = True
        self._wake()

    def lose(self) -> None:
        """The lease is gone: nothing more is written from here; readers go on from the database."""
        self.lost = True
        for step in self._steps:
            step.kept.set()
        self._wake()

    def stir(self) -> None:
        """Wake every reader, though there is nothing new: one of them may have to leave."""
        self._wake()

    def after(self, seq: int) -> list[tuple[int, bytes]]:
        """Committed events with a number over ``seq``, ``PAGE`` of them at most."""
        return list(enumerate(self._frames[seq : min(self._committed, seq + PAGE)], seq + 1))

    async def wait_after(self, seq: int, seconds: float) -> list[tuple[int, bytes]]:
        """Wait at most ``seconds`` for events over ``seq``; empty when none came or none will."""
        changed = self._changed
        found = self.after(seq)
        if found or self.finished:
            return found
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return []
        return self.after(seq)

    def _soon(self) -> float:
        return self._written_at + WINDOW

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _event(item: Event | _Pieces | Drawing) -> Event | None:
    if isinstance(item, dict):
        return item
    if isinstance(item, _Pieces):
        return agui.delta(item.kind, item.of, "".join(item.texts))
    return item.drawn()
