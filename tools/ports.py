"""What tools need from the rest of the house, as small protocols that ``server`` fills."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol
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


class Place(AbstractAsyncContextManager[None], Protocol):
    """Where a request is worked on: ``async with``, or taken and given back."""

    def at_once(self) -> bool:
        """Take the place if nothing has to be waited for; if not, :meth:`take` it."""
        ...

    async def take(self) -> None:
        """Wait for the place. Raises ``AppError`` 429 when that would take too long."""
        ...

    def give_back(self) -> None:
        """May be called more than once, and without a place."""
        ...


class _Nowhere:
    def at_once(self) -> bool:
        return True

    async def take(self) -> None:
        return None

    def give_back(self) -> None:
        return None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_how: object) -> None:
        return None


NOWHERE: Final[Place] = _Nowhere()
"""A place that nobody has to wait for."""


class Limits(Protocol):
    """How much one key and one project may ask for. What is too much is an ``AppError`` 429 with ``retry_after``."""

    async def admit(self, principal: Principal) -> None:
        """Count one request of a key."""
        ...

    def place(self, principal: Principal, *, long: bool = False) -> Place:
        """A place of the key while its request is worked on."""
        ...

    def in_project(self, principal: Principal, project_id: UUID | None, *, long: bool = False) -> Place:
        """Count one call in a project, and hold a place of it while the call lasts."""
        ...


@dataclass(frozen=True, slots=True)
class NoLimits:
    """Everything is admitted at once."""

    async def admit(self, principal: Principal) -> None:
        """Nothing is counted."""

    def place(self, principal: Principal, *, long: bool = False) -> Place:
        return NOWHERE

    def in_project(self, principal: Principal, project_id: UUID | None, *, long: bool = False) -> Place:
        return NOWHERE


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a tool can reach. Tests replace it whole."""

    database: Database
    runs: Runs
    pages: Pages = PagesAt()
    limits: Limits = NoLimits()
