"""Patterns of clients' JSON Schemas, in RE2's syntax: compiled and matched without backtracking, in bounded time.

Each is done in one go, which lets no other thread of the process do anything. What that takes grows with what a pattern
is unfolded to, where ``a{1000}`` is a thousand times ``a``: its *weight*. As in RE2 and ECMA-262, ``\\w`` and ``\\d``
are ASCII; among all letters of the world each would weigh as much as a thousand of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

MOST_WEIGHT: Final = 50_000
"""Of one pattern: 20 to 50 ms until it is compiled."""
MOST_MATCH: Final = 25_000_000
"""Weight of a pattern times characters that it is matched with: 80 ms at worst."""
_TOKEN: Final = re.compile(
    r"(?P<repeat>\{(?P<least>\d+)(?:,(?P<most>\d*))?\})|(?P<property>\\[pP](?:\{[^}]*\}|.))|\\[xuU]\{[0-9a-fA-F]+\}"
    r"|(?P<short>\\[wWdD])|\\.|(?P<open>[(\[])|(?P<close>[)\]])|(?P<silent>[\s*+?])|(?P<any>\.)|.",
    re.DOTALL,
)
_SHORT: Final = {r"\w": "[A-Za-z0-9_]", r"\W": "[^A-Za-z0-9_]", r"\d": "[0-9]", r"\D": "[^0-9]"}
_WEIGHTS: Final = {"property": 500, "short": 12, "any": 5}
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z-]*x")


class PatternError(Exception):
    """It is not supported."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """``weight``: what it is unfolded to, in characters."""

    weight: int
    _validator: SchemaValidator

    def matches(self, text: str) -> bool:
        """Whether it is found anywhere in ``text``. Raises :class:`PatternError` where that takes too long to say."""
        if self.weight * len(text) > MOST_MATCH:
            raise PatternError
        try:
            self._validator.validate_python(text)
        except ValidationError:
            return False
        return True


@lru_cache(maxsize=256)
def compiled(text: str) -> Pattern:
    """Raises :class:`PatternError`."""
    weight, spelled = _unfolded(text)
    # RE2 has no such flag; what it makes a comment would be weighed as a part of the pattern.
    if weight > MOST_WEIGHT or _VERBOSE.search(text) is not None:
        raise PatternError
    try:
        return Pattern(weight, SchemaValidator(core_schema.str_schema(pattern=spelled, regex_engine="rust-regex")))
    except SchemaError:
        raise PatternError from None


def _unfolded(text: str) -> tuple[int, str]:
    """The weight of a pattern, and how it is spelled for the engine. What looks like a repetition counts as one."""
    spelled: list[str] = []
    groups, last = [0], 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        spelled.append(_SHORT[token[0]] if kind == "short" else token[0])
        if kind == "open":
            groups.append(1)
            last = 0
        elif kind == "close":
            last = groups.pop() if len(groups) > 1 else 0
            groups[-1] += last
        elif token["repeat"]:
            times = max(int(token["least"][:9]), int((token["most"] or "0")[:9]), 1)
            groups[-1] += last * (times - 1)
            last *= times
        elif kind != "silent":
            last = _WEIGHTS.get(kind or "", 1)
            groups[-1] += last
    return sum(groups), "".join(spelled)
