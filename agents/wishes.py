"""What a client wishes of the model for one run: ``forwardedProps.innkeeper.parameters`` of its input.

``{"maxTokens": 500, "temperature": 0.2, "toolChoice": "none" | "required" | {"name": "a_tool"}}``. A wish never gives
more than the agent's own parameters do: the lower number of tokens counts. A choice that forces a tool is for the
model's first answer alone, for with it no run would ever end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agents.model_settings import PARAMETERS
from db.errors import AppError, invalid

PLACE: Final = "forwardedProps.innkeeper.parameters"
_OURS: Final = {"maxTokens": "max_tokens", "temperature": "temperature"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """``tool_choice``: ``none`` or ``required``; ``tool``: the name of the one that is to be called."""

    max_tokens: int | None = None
    temperature: float | None = None
    tool_choice: str | None = None
    tool: str | None = None


NONE: Final = Wishes()


def parse(given: Any) -> Wishes:
    """Raises AppError ``invalid_arguments``."""
    if given is None:
        return NONE
    if not isinstance(given, dict):
        raise _wrong("it must be an object")
    for name, value in given.items():
        if name in _OURS:
            fits, what = PARAMETERS[_OURS[name]]
            if not fits(value):
                raise _wrong(f"{name} must be {what}")
        elif name != "toolChoice":
            raise _wrong(f"'{name}' is not known")
    choice, tool = _choice(given.get("toolChoice"))
    return Wishes(given.get("maxTokens"), given.get("temperature"), choice, tool)


def _choice(given: Any) -> tuple[str | None, str | None]:
    if given in (None, "auto"):
        return None, None
    if given in ("none", "required"):
        return given, None
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(name, str) or not name:
        raise _wrong("toolChoice must be auto, none, required or name a tool")
    return None, name


def _wrong(what: str) -> AppError:
    return invalid(f"{PLACE} cannot be used: {what}.", 'Like {"maxTokens": 500, "temperature": 0.2}.')
