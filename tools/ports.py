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


class Pages(Protocol):
    """Where people find the pages of this house."""

    def approval(self, approval_id: UUID) -> str:
        """The address of the page that shows what waits for a person. It identifies and opens nothing by itself."""
        ...


@dataclass(frozen=True, slots=True)
class PagesAt:
    """The pages under a public address; without one, paths alone."""

    base_url: str = ""

    def approval(self, approval_id: UUID) -> str:
        return f"{self.base_url.rstrip('/')}/approvals/{approval_id}"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a tool can reach. Tests replace it whole."""

    database: Database
    runs: Runs
    pages: Pages = PagesAt()
