"""What an answer of a model says that it used, as numbers that can be added up and kept."""

from __future__ import annotations

import math
from typing import Any, Final

MOST: Final = (1 << 31) - 1
"""Tokens of one answer. Whoever says more says nothing true, and a run of the most steps still fits a bigint."""


def bound_usage(answer: dict[str, Any]) -> None:
    """Bring the counts of an answer, as JSON, between 0 and ``MOST``. What is no number counts as 0."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return
    for name, value in usage.items():
        if name == "details" and isinstance(value, dict):
            usage[name] = {of: _bounded(count) for of, count in value.items()}
        elif name.endswith("_tokens"):
            usage[name] = _bounded(value)


def _bounded(value: object) -> int:
    if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return 0
    return int(min(max(value, 0), MOST))
