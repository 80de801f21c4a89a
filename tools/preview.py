"""What a call would do, said before it does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Preview:
    """``effect``: one sentence with ids and counts only, since models read it too. ``facts``: what a person should see
    as well, by label; names that tenants chose belong here, models never get them."""

    effect: str
    facts: Mapping[str, str] = field(default_factory=dict)
