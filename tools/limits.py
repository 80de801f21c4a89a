"""The port of what one key and one project may ask for at a time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from db.principal import Principal


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

    def at_once(self, principal: Principal) -> bool:
        """Count one request of a key if that needs no waiting; if not, :meth:`admit` it."""
        ...

    async def admit(self, principal: Principal) -> None:
        """Count one request of a key."""
        ...

    async def hold(self, principal: Principal) -> None:
        """Before a refusal that :meth:`admit` did not make: wait if the key goes on after too many of them. Hold no
        place meanwhile."""
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

    def at_once(self, principal: Principal) -> bool:
        return True

    async def admit(self, principal: Principal) -> None:
        """Nothing is counted."""

    async def hold(self, principal: Principal) -> None:
        """Nobody waits."""

    def place(self, principal: Principal, *, long: bool = False) -> Place:
        return NOWHERE

    def in_project(self, principal: Principal, project_id: UUID | None, *, long: bool = False) -> Place:
        return NOWHERE


NO_LIMITS: Final[Limits] = NoLimits()
