"""Budgets of requests, shared by every process: a process leases a slice and spends it without asking.

What is leased is taken from the budget at once, so all processes together never lease more than there is; a slice that
is spent later than it was leased is what a process can be over at a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from uuid import UUID

from db.database import Database

SLICES = 50
"""How many slices a whole budget has, at least."""

SLICE_SECONDS = 0.1
"""How long the rate takes to make a slice, at most: what a flood is let in with comes in waves of one slice."""


@dataclass(frozen=True, slots=True)
class Budget:
    """``rate`` requests a second on average, ``burst`` of them at once after a silence."""

    rate: float
    burst: float

    @property
    def slice(self) -> int:
        """How many requests a process leases at a time."""
        return max(1, ceil(min(self.burst / SLICES, self.rate * SLICE_SECONDS)))


@dataclass(frozen=True, slots=True)
class Lease:
    """``granted`` requests may be made; when none, a slice will be there in ``wait`` seconds."""

    granted: int
    wait: float = 0.0


async def lease(database: Database, subject: UUID, budget: Budget) -> Lease:
    """A slice of the budget of ``subject``, a key or a project. Raises ``AppError`` when the database is away."""
    async with database.ops() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM lease_budget($1, NULL, $2, $3, $4)", subject, budget.rate, budget.burst, budget.slice
        )
    return Lease(row["granted"], row["wait"]) if row is not None else Lease(0, 1.0)


async def is_member(database: Database, project_id: UUID, user_id: UUID) -> bool:
    """Whether what this user does in this project may be counted there. Raises ``AppError`` as :func:`lease` does."""
    async with database.ops() as connection:
        granted = await connection.fetchval("SELECT granted FROM lease_budget($1, $2, 1, 1, 0)", project_id, user_id)
    return granted is not None
