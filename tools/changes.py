"""What a tool that changes settings is asked for: the settings it is given, and the names of those it is to clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from db.errors import invalid


def wanted(
    given: Mapping[str, Any], clear: Sequence[str], empty: Mapping[str, Any], noun: str = "setting"
) -> dict[str, Any]:
    """The new values by name: those of ``given`` that are not ``None``, and of each in ``clear`` that in ``empty``, or
    ``None``. Raises ``AppError`` ``invalid_arguments`` for one that is both set and cleared, and for none at all."""
    changes = {name: value for name, value in given.items() if value is not None}
    twice = sorted(set(clear) & changes.keys())
    if twice:
        raise invalid(
            f"{', '.join(twice)} is both set and cleared.",
            f"Name each {noun} once: take what is to be set out of clear.",
            details={"arguments": [{"do": "change", "at": "clear", "without": twice}]},
        )
    changes.update((name, empty.get(name)) for name in clear)
    if not changes:
        raise invalid(
            "Nothing to change.",
            f"Give at least one of {', '.join(given)}, or name one in clear.",
            details={"arguments": [{"do": "give", "any_of": list(given)}]},
        )
    return changes
