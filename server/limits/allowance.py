"""What this process may still spend of one budget: a number in memory, refilled by leases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

from db import budgets
from db.budgets import Budget, Lease
from db.database import Database
from db.errors import AppError

log = logging.getLogger("innkeeper.limits")

ANSWER_SECONDS: Final = 1.0
"""How long an answer may take. After that, and for as long again, the database counts as away."""

Clock = Callable[[], float]
T = TypeVar("T")


class Register:
    """The way to the budgets in the database, with a bound on how long anybody waits for it. One a process.

    While the database is away a process grants itself slices at the configured rate, a slice at once: it neither
    refuses everybody nor lets anybody through without bound, and no request waits longer than ``ANSWER_SECONDS``.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.clock = clock
        self._away_until = float("-inf")

    async def lease(self, allowance: Allowance) -> Lease:
        """A slice for ``allowance``, of the common budget if it can be had."""
        leased = await self._answer(lambda: budgets.lease(self._database, allowance.subject, allowance.budget))
        return allowance.by_itself(self.clock()) if leased is None else leased

    async def is_member(self, project_id: UUID, user_id: UUID) -> bool | None:
        """Whether a project is the user's; ``None`` while nobody can say."""
        return await self._answer(lambda: budgets.is_member(self._database, project_id, user_id))

    async def _answer(self, question: Callable[[], Awaitable[T]]) -> T | None:
        if self.clock() < self._away_until:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await question()
        except (AppError, TimeoutError) as error:
            log.warning("budgets cannot be leased: %s", getattr(error, "message", "no answer in time"))
            self._away_until = self.clock() + ANSWER_SECONDS
            return None


class Allowance:
    """Of one key or project. ``left`` is public, because to spend is to take one off it as long as there is one."""

    __slots__ = ("_leasing", "_paid_until", "_refused_until", "_register", "budget", "left", "subject")

    def __init__(self, subject: UUID, budget: Budget, register: Register) -> None:
        self.subject = subject
        self.budget = budget
        self.left = 0
        self._register = register
        self._leasing = asyncio.Lock()
        self._refused_until = float("-inf")
        self._paid_until = float("-inf")

    async def spend(self) -> float:
        """Take one; 0.0 when there was one, else in how many seconds there will be a slice."""
        if self.left > 0:
            self.left -= 1
            return 0.0
        async with self._leasing:
            if self.left <= 0 and self._register.clock() >= self._refused_until:
                lease = await self._register.lease(self)
                self.left += lease.granted
                if not lease.granted:
                    self._refused_until = self._register.clock() + lease.wait
        if self.left > 0:
            self.left -= 1
            return 0.0
        return max(self._refused_until - self._register.clock(), 0.001)

    def by_itself(self, now: float) -> Lease:
        """A slice without asking anyone: each is paid for with the time in which the rate makes one."""
        if now < self._paid_until:
            return Lease(0, self._paid_until - now)
        self._paid_until = now + self.budget.slice / self.budget.rate
        return Lease(self.budget.slice)
