"""What a call would do, said before it does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preview:
    """``effect``: one sentence with ids and counts only, since models read it too. ``facts``: what a person should see
    as well, by label; names that tenants chose belong here, models never get them."""

    effect: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def kept(self) -> dict[str, Any]:
        """As the record of a question has it. ``jsonb`` keeps no order of members, so facts are pairs there."""
        return {"effect": self.effect, "facts": [list(fact) for fact in self.facts.items()]}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Preview:
        """What was :meth:`kept`; in old records facts are members still."""
        return cls(kept["effect"], dict(kept["facts"]))
