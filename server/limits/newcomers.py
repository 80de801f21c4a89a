"""The limits of who has no key yet: by the address that a request comes from, or by the account that is tried.

Budgets hold for all processes together, as those of keys do (:mod:`db.budgets`). What is right is never refused: of
attempts to guess something only those that fail are counted, so that nobody behind the same address, and nobody whose
account is tried, is locked out by a stranger.
"""

from __future__ import annotations

from math import ceil
from time import monotonic
from typing import Final
from uuid import UUID, uuid5

from starlette.requests import Request

from db.budgets import Budget
from db.database import Database
from db.errors import AppError
from server.limits.allowance import Allowance, Clock, Register

REMEMBERED: Final = 10_000
REGISTRATIONS: Final = Budget(rate=1 / 6, burst=30)
"""Of clients that register themselves, or whose documents are fetched, from one address."""
GUESSES: Final = Budget(rate=1 / 2, burst=60)
"""Of tokens, codes and secrets that were wrong, from one address."""
DEVICE_CODES: Final = Budget(rate=1 / 10, burst=10)
"""Of codes of devices that were wrong, typed by one person."""
SIGN_INS: Final = Budget(rate=1 / 10, burst=30)
"""Of links to sign in with, asked for from one address."""
SIGN_INS_OF_ACCOUNT: Final = Budget(rate=1 / 60, burst=20)
"""Of those to one mailbox, whoever asks, so that nobody's is flooded."""
SIGN_INS_FROM_HERE: Final = Budget(rate=1 / 60, burst=5)
"""Of those to one mailbox asked for from one address: it is empty long before the mailbox's own."""
VISITORS: Final = Budget(rate=1 / 2, burst=60)
"""Of sessions for visitors without a name, begun from one address."""
EXCHANGES: Final = Budget(rate=1 / 10, burst=60)
"""Of tokens for one end user, who needs one an hour."""
WAYS: Final = Budget(rate=1.0, burst=120)
"""Of ways to an issuer that begin at one address, where a whole office may be."""
ARRIVALS: Final = Budget(rate=1 / 60, burst=20)
"""Of those on which one account at an issuer comes back: whoever comes has proven that it is theirs."""
_NAMESPACE: Final = UUID("6f1c7c52-3a3a-5c0e-9d59-2f3a54a4a0d1")


class Newcomers:
    """One a process. ``more``: how many times as much there is of everything."""

    def __init__(self, database: Database, *, more: int = 1, clock: Clock = monotonic) -> None:
        self._more = more
        self._register = Register(database, clock)
        self._known: dict[UUID, Allowance] = {}

    async def count(self, what: str, whose: str, budget: Budget) -> None:
        """Count one. Raises ``AppError`` 429 with an honest ``retry_after`` when there were too many."""
        subject = uuid5(_NAMESPACE, f"{what} {whose}")
        found = self._known.get(subject)
        if found is None:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            found = self._known[subject] = Allowance(subject, self._enlarged(budget), self._register)
        wait = await found.spend()
        if wait:
            seconds = max(1, ceil(wait))
            raise AppError(
                "too_many_attempts",
                429,
                "There were too many of these from here.",
                f"Wait {seconds} s, then try again.",
                retryable=True,
                retry_after=seconds,
            )

    def _enlarged(self, budget: Budget) -> Budget:
        return Budget(budget.rate * self._more, budget.burst * self._more)


def address_of(request: Request) -> str:
    """Where a request comes from, as the server itself sees it."""
    return request.client.host if request.client else "nowhere"
