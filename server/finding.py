"""One line of ``innkeeper doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``note`` is worth knowing and nothing to be done about; ``warn`` is a risk that the settings ask for."""

    subject: str
    verdict: Verdict
    said: str
