"""Refusals that come late to whoever goes on after being refused, so that a flood is slowed and costs next to nothing.

A connection waits for its answer before it is read on. So ``n`` connections of a key that does not heed ``Retry-After``
get ``n`` refusals in ``HOLD_SECONDS``, however much they send. Who heeds it, or is refused for the first time in a
while, never waits. What is held has no place of its key or project, and no task but the request's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from server.limits.allowance import Clock

HOLD_SECONDS: Final = 1.0
"""Never longer than ``Retry-After``, which is at least 1, and shorter than any drain."""
AT_ONCE: Final = 10
"""Refusals of a key that do not wait; one more for each second that goes by."""
MOST_OF_A_KEY: Final = 500
MOST: Final = 2_000
"""How many are held; those beyond are refused at once."""
REMEMBERED: Final = 10_000


class Holdback:
    """One a process."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._patient_until: dict[UUID, float] = {}
        self._held: Counter[UUID] = Counter()
        self._all = 0

    async def hold(self, key: UUID) -> None:
        """Wait before ``key`` is told of a refusal, if it was told of many just now."""
        if self._first(key) or self._all >= MOST or self._held[key] >= MOST_OF_A_KEY:
            return
        self._all += 1
        self._held[key] += 1
        try:
            await self._sleep(HOLD_SECONDS)
        finally:
            self._all -= 1
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def _first(self, key: UUID) -> bool:
        """Whether this refusal is one of the ``AT_ONCE``: the generic cell rate algorithm, one a second."""
        now = self._clock()
        until = max(self._patient_until.pop(key, now), now)
        first = until + 1 <= now + AT_ONCE
        if len(self._patient_until) >= REMEMBERED:
            del self._patient_until[next(iter(self._patient_until))]
        self._patient_until[key] = until + 1 if first else until
        return first
