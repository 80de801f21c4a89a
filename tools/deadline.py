"""A time limit that costs next to nothing when many calls share it: one timer for all of them, not one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from time import monotonic
from types import TracebackType, coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")


class Deadline:
    """``with deadline.kept():`` cancels what runs in it after ``seconds``, and raises ``TimeoutError`` in its place.

    As ``asyncio.timeout``. All limits of one deadline are equally long, so they end in the order they began: a timer is
    needed for the oldest only, and most calls begin and end between two of its rounds.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[_Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def kept(self) -> _Limit:
        return _Limit(self)

    async def during(self, work: Coroutine[Any, Any, Value]) -> Value:
        """What ``work`` returns, within the time. Work that waits for nothing needs no limit."""
        try:
            awaited = work.send(None)
        except StopIteration as done:
            value: Value = done.value
            return value
        with self.kept():
            return await _rest(work, awaited)

    def begin(self, limit: _Limit) -> None:
        self._running[limit] = None
        if self._timer is None and self.loop is not None:
            self._timer = self.loop.call_later(self.seconds, self._round, self.loop)

    def task(self) -> asyncio.Task[Any]:
        """The running task. To name the loop spares the look for it, which asks the kernel for the process."""
        task = asyncio.current_task(self.loop)
        if task is None or self.loop is None:
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("a deadline needs a task that it can end")
            self.loop, self._timer = task.get_loop(), None
            self._running.clear()
        return task

    def end(self, limit: _Limit) -> None:
        self._running.pop(limit, None)

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = monotonic()
        for limit in list(self._running):
            if limit.ends > now:
                self._timer = loop.call_later(limit.ends - now, self._round, loop)
                return
            del self._running[limit]
            limit.expire()


@coroutine
def _rest(work: Coroutine[Any, Any, Value], awaited: Any) -> Generator[Any, Any, Value]:
    """Go on with work that waits for ``awaited``. ``await`` takes only what has not begun."""
    while True:
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001  the work's to handle
            step = partial(work.throw, error)
        else:
            step = partial(work.send, sent)
        try:
            awaited = step()
        except StopIteration as done:
            value: Value = done.value
            return value


class _Limit:
    """One use of a deadline, by the task that enters it."""

    __slots__ = ("_cancelling", "_deadline", "_expired", "_task", "ends")

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._expired = False

    def __enter__(self) -> None:
        task = self._deadline.task()
        self._task = task
        self._cancelling = task.cancelling()
        self.ends = monotonic() + self._deadline.seconds
        self._deadline.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            self._deadline.end(self)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()
