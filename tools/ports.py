"""What tools need from the rest of the house, as small protocols that ``server`` fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from db.database import Database
from db.principal import Principal


class Runs(Protocol):
    """The part of the run engine that tools reach."""

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """Ask every live run of the project to stop, on every process. Returns once asked, not once stopped."""
        ...


class NoRuns:
    """For a process in which no run can be started."""

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """There is nothing to cancel."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a tool can reach. Tests replace it whole."""

    database: Database
    runs: Runs
