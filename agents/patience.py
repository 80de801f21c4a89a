"""Asks the house again while it cannot answer at the moment: its database restarts, or too much is asked of it at once.

A run outlives that, as its log does. What writes carries its idempotency key, so that asking again does nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from db.errors import AppError

T = TypeVar("T")

PATIENCE_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.25
PASSING: Final = frozenset({"unavailable", "too_many_at_once"})


async def patiently(ask: Callable[[], Awaitable[T]], code_of: Callable[[T], str | None] = lambda _answer: None) -> T:
    """The answer, or the error, that does not pass within ``PATIENCE_SECONDS``. ``code_of``: of an answer that is an
    error."""
    clock = asyncio.get_running_loop().time
    until = clock() + PATIENCE_SECONDS
    while True:
        try:
            answer = await ask()
            if code_of(answer) not in PASSING or clock() >= until:
                return answer
        except AppError as error:
            if error.code not in PASSING or clock() >= until:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
