"""Forms that say what is wrong where it is, and keep what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from db.errors import AppError


@dataclass(frozen=True, slots=True)
class Sheet:
    """A form as it is shown. ``texts``: of its fields, by name; ``faults``: what is wrong with some of them;
    ``refusal``: what is wrong with all of it."""

    texts: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""

    @property
    def status(self) -> int:
        """Of the answer that shows it (RFC 9110, 15.5.21)."""
        return 422 if self.faults or self.refusal else 200


def refused(texts: Mapping[str, str], error: AppError, rules: Mapping[str, str]) -> Sheet:
    """The form again, after a tool refused what it said. ``rules``: for each field the sentence that says what it
    takes. Raises ``error`` when it is not about the form."""
    if error.status not in (400, 409, 422):
        raise error
    places = [str(repair.get("at", "")).partition(".")[0] for repair in error.details.get("arguments", [])]
    faults = {place: rules[place] for place in places if place in rules}
    if faults:
        return Sheet(texts, faults)
    return Sheet(texts, refusal=" ".join(part for part in (error.message, error.hint) if part))
