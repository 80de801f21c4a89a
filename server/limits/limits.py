"""The limits of keys and projects, at the doors that all requests come through.

A request costs its key one of its budget, and a call in a project costs the project one too. Budgets hold for all
processes together (:mod:`db.budgets`); places, of which a request holds one while it is worked on, for each process.
A run's own calls take no second place and are slowed, not refused, as long as that helps within ``PATIENCE_SECONDS``.
Only members count in a project: nobody else can use up what is its. A key that goes on after refusals is told of
further ones late (:mod:`server.limits.holdback`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil
from time import monotonic
from types import TracebackType
from typing import Final
from uuid import UUID

from db.budgets import Budget
from db.database import Database
from db.errors import AppError
from db.principal import Principal
from db.turns import Turn, Turns
from server.limits.allowance import Allowance, Clock, Register
from server.limits.holdback import Holdback
from server.limits.rules import Rules, Share
from tools.limits import NOWHERE, Place

PATIENCE_SECONDS: Final = 5.0
MEMBER_SECONDS: Final = 60.0
REMEMBERED: Final = 10_000
IN_LINE: Final = 16
"""How many may wait for each place."""


class _Door:
    """The limits of one kind of subject."""

    def __init__(self, share: Share, register: Register, kind: str) -> None:
        self.kind = kind
        self._budget = share.budget
        self._register = register
        self.known: dict[int, Allowance] = {}
        """By the number of the UUID: a UUID hashes in Python, and this is looked up for each request."""
        self.calls = Turns(share.calls, share.calls * IN_LINE, what=f"calls of a {kind}") if share.calls else None
        self.streams = Turns(share.streams, 0, what=f"runs and long calls of a {kind}") if share.streams else None

    def turns(self, *, long: bool) -> Turns | None:
        return self.streams if long else self.calls

    def allowance(self, subject: UUID) -> Allowance | None:
        """What the subject may spend; ``None`` without a limit. Those forgotten lose at most a slice."""
        found = self.known.get(subject.int)
        if found is None and self._budget is not None:
            if len(self.known) >= REMEMBERED:
                del self.known[next(iter(self.known))]
            found = self.known[subject.int] = Allowance(subject, self._budget, self._register)
        return found


class Limits:
    """Implements ``tools.ports.Limits``. One a process."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        *,
        clock: Clock = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._register = register = Register(database, clock)
        self._holdback = Holdback(clock, sleep)
        self.keys = _Door(rules.key, register, "key")
        self.projects = _Door(rules.project, register, "project")
        self._off = rules.project == Share(None, 0, 0)
        self._members: dict[tuple[int, int], float] = {}

    def at_once(self, principal: Principal) -> bool:
        """Count one request of a key if its slice has one left; if not, :meth:`admit` it."""
        allowance = self.keys.known.get(principal.credential_id.int)
        if allowance is None or allowance.left <= 0:
            return False
        allowance.left -= 1
        return True

    async def admit(self, principal: Principal) -> None:
        """Count one request of a key. Raises ``AppError`` 429 with an honest ``retry_after``, late if need be."""
        allowance = self.keys.allowance(principal.credential_id)
        if allowance is not None:
            try:
                await self._spend(allowance, principal, self.keys)
            except AppError:
                await self.hold(principal)
                raise

    async def hold(self, principal: Principal) -> None:
        """Wait before a key is told of a refusal, if it goes on after too many. A run's calls were slowed already."""
        if principal.run_id is None:
            await self._holdback.hold(principal.credential_id)

    def place(self, principal: Principal, *, long: bool = False) -> Place:
        """A place of the key, for as long as its request is worked on. A run's calls have their run's."""
        turns = self.keys.streams if long else self.keys.calls
        return NOWHERE if turns is None or principal.run_id is not None else Turn(turns, principal.credential_id)

    def in_project(self, principal: Principal, project_id: UUID | None, *, long: bool = False) -> Place:
        """Count one call in a project, and hold a place of the project while it lasts."""
        return NOWHERE if project_id is None or self._off else _InProject(self, principal, project_id, long=long)

    async def enter(self, principal: Principal, project_id: UUID, *, long: bool) -> Turn | None:
        """Count one call and take the place to be given back; ``None`` when there is no need for one."""
        if not await self._counts(principal, project_id):
            return None
        allowance = self.projects.allowance(project_id)
        if allowance is not None:
            await self._spend(allowance, principal, self.projects)
        turns = self.projects.turns(long=long)
        if turns is None or principal.run_id is not None:
            return None
        turn = turns.of(project_id)
        await turn.take()
        return turn

    async def _counts(self, principal: Principal, project_id: UUID) -> bool:
        """Whether the caller is of the project, as it was at most ``MEMBER_SECONDS`` ago."""
        pair = (principal.user_id.int, project_id.int)
        now = self._clock()
        if now < self._members.get(pair, now):
            return True
        member = await self._register.is_member(project_id, principal.user_id)
        if member is None:
            return pair in self._members
        if member:
            if len(self._members) >= REMEMBERED:
                del self._members[next(iter(self._members))]
            self._members[pair] = now + MEMBER_SECONDS
        return member

    async def _spend(self, allowance: Allowance, principal: Principal, door: _Door) -> None:
        wait = await allowance.spend()
        patience = PATIENCE_SECONDS if principal.run_id is not None else 0.0
        while 0 < wait <= patience:
            patience -= wait
            await self._sleep(wait)
            wait = await allowance.spend()
        if wait:
            raise _limited(door.kind, allowance.budget, wait)


class _InProject:
    __slots__ = ("_limits", "_long", "_principal", "_project_id", "_turn")

    def __init__(self, limits: Limits, principal: Principal, project_id: UUID, *, long: bool) -> None:
        self._limits = limits
        self._principal = principal
        self._project_id = project_id
        self._long = long
        self._turn: Turn | None = None

    def at_once(self) -> bool:
        """Never: who is of the project, and what it may still spend, may have to be asked for."""
        return False

    async def take(self) -> None:
        self._turn = await self._limits.enter(self._principal, self._project_id, long=self._long)

    def give_back(self) -> None:
        if self._turn is not None:
            self._turn.give_back()

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()


def _limited(kind: str, budget: Budget, wait: float) -> AppError:
    seconds = max(1, ceil(wait))
    return AppError(
        "rate_limited",
        429,
        f"This {kind} has made its requests for now: {budget.rate:g} a second on average, {budget.burst:g} at once.",
        f"Wait {seconds} s, then go on more slowly.",
        retryable=True,
        retry_after=seconds,
    )
