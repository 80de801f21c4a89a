"""The places that a run holds, of its key and of its project, from its start to its end."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from db.principal import Principal
from tools.limits import Limits, Place


class RunPlaces:
    """``async with`` while the run is being started: the place of the key, and of the project when that is known. What
    goes wrong there gives them back; else they are the run's, to give back together, as often as anybody says so."""

    def __init__(self, limits: Limits, principal: Principal) -> None:
        self._limits = limits
        self._principal = principal
        self._taken: list[Place] = []

    async def __aenter__(self) -> Self:
        """Raises ``AppError`` 429."""
        await self._add(self._limits.place(self._principal, long=True))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            self.give_back()

    async def enter(self, project_id: UUID) -> None:
        """The place of the project, as soon as it is known which one it is. Raises ``AppError`` 429."""
        await self._add(self._limits.in_project(self._principal, project_id, long=True))

    def give_back(self) -> None:
        while self._taken:
            self._taken.pop().give_back()

    async def _add(self, place: Place) -> None:
        await place.take()
        self._taken.append(place)
