"""What a run is decided by before it lives. Importing it imports nothing of pydantic-ai."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from agents.opening import NOTHING, Opening
from db.agents import RunSettings
from db.principal import Principal

if TYPE_CHECKING:
    from agents.history import Turn
    from agents.run_input import RunInput


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run is decided by before it begins, or goes on. ``run_id`` is our id, ``asked`` holds the client's.

    ``seconds``: how long it may (still) take. ``steps``: what was finished of it before, ``told``: how many results of
    each call its log has, ``showing``: the components that it has not said the end of, by their calls, and ``broken``:
    how long each answer was that a process left in the middle of. ``shared``: it has started runs before, which its
    limits are for too. ``opening``: what it tells first.
    """

    run_id: UUID
    thread_id: UUID
    project_id: UUID
    agent: str
    grant: Principal
    settings: RunSettings
    asked: RunInput
    turn: Turn
    seconds: float
    steps: Mapping[str, bytes] = field(default_factory=dict)
    told: Mapping[str, int] = field(default_factory=dict)
    showing: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    opening: Opening = NOTHING
    broken: Sequence[int] = ()
