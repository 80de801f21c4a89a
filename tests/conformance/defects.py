"""Seeded defects: each breaks the profile in one way that a careless change could, and says what must notice it.

``caught_by`` is a scenario of the official suite (run at ``revision``) or one of our negative controls. The defects
themselves are in ``defects_at_the_door``, ``defects_on_the_wire`` and ``defects_in_results``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.types import ASGIApp

from server.mcp.exchange import Exchange
from tests.conformance.breaking import Answered, Asked, spoiled
from tests.conformance.controls import MODERN, Control

Seed: TypeAlias = Callable[[Starlette], ASGIApp]


@dataclass(frozen=True)
class Defect:
    name: str
    seed: Seed
    caught_by: str | Control
    revision: str


DEFECTS: list[Defect] = []


def defect(caught_by: str | Control, revision: str = MODERN) -> Callable[[Seed], Seed]:
    """Add a function that breaks an application to the list."""

    def add(seed: Seed) -> Seed:
        DEFECTS.append(Defect(seed.__name__, seed, caught_by, revision))
        return seed

    return add


def method_of(asked: Asked) -> str:
    return str(asked.message.get("method")) if isinstance(asked.message, dict) else ""


def exchange_of(app: Starlette) -> Exchange:
    exchange = app.state.mcp_app.lanes[-1]
    assert isinstance(exchange, Exchange)
    return exchange


def answering(app: Starlette, method: str, change: Callable[[Answered], object]) -> ASGIApp:
    """``app`` whose answers to ``method`` are changed."""

    def outward(asked: Asked, answered: Answered) -> None:
        if method_of(asked) == method:
            change(answered)

    return spoiled(app, outward=outward)
