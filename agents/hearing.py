"""Who hears the answer of a model while it comes."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponseStreamEvent


class Hearing:
    """Of one answer. ``begun``: something of it was said, so that no other may be asked for in its place."""

    def __init__(self, tell: Callable[[ModelResponseStreamEvent], None]) -> None:
        self._tell = tell
        self.begun = False

    def hear(self, event: ModelResponseStreamEvent) -> None:
        self.begun = True
        self._tell(event)


hearing: Final[ContextVar[Hearing | None]] = ContextVar("innkeeper_hearing", default=None)
"""Of the answer that the current task asks a model for; without one nobody hears it before it is there as a whole."""
