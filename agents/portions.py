"""A model's answer in portions: however much of it comes at once, others get their turn between two of them.

What is said in one answer, and in how many parts, is bounded: the SDK goes through all of it again at the end of each
part, in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.messages import (
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_core import to_json

from agents.model_errors import too_much

LONGEST: Final = 4096
"""Characters that are heard at once: the props of a component take 5 ms."""
LARGEST: Final = 1 << 20
"""Characters of text, reasoning and arguments in one answer: twice what the longest-winded models say."""
MOST_PARTS: Final = 256


class Portions:
    """Of one answer."""

    def __init__(self) -> None:
        self._said = self._parts = 0

    def of(self, event: ModelResponseStreamEvent) -> Iterator[ModelResponseStreamEvent]:
        """The same event as one or several. Raises AppError ``model_bad_response`` for more than any model says."""
        if isinstance(event, PartDeltaEvent):
            text = _delta_text(event.delta)
        elif isinstance(event, PartStartEvent):
            self._parts += 1
            text = _text(event.part)
        else:
            yield event
            return
        self._said += len(text)
        if self._said > LARGEST or self._parts > MOST_PARTS:
            raise too_much()
        if len(text) <= LONGEST:
            yield event
            return
        first, *others = (text[at : at + LONGEST] for at in range(0, len(text), LONGEST))
        yield _beginning(event, first)
        for other in others:
            yield PartDeltaEvent(index=event.index, delta=_delta(event, other))


def _delta_text(delta: Any) -> str:
    said = delta.args_delta if isinstance(delta, ToolCallPartDelta) else getattr(delta, "content_delta", None)
    return _spelled(said)


def _text(part: Any) -> str:
    if isinstance(part, ToolCallPart):
        return _spelled(part.args)
    return part.content if isinstance(part, TextPart | ThinkingPart) else ""


def _spelled(said: Any) -> str:
    if isinstance(said, dict):
        return to_json(said).decode() if said else ""
    return said or ""


def _beginning(event: PartStartEvent | PartDeltaEvent, text: str) -> ModelResponseStreamEvent:
    if isinstance(event, PartDeltaEvent):
        return replace(event, delta=_delta(event, text))
    name = "args" if isinstance(event.part, ToolCallPart) else "content"
    changed: dict[str, Any] = {name: text}
    return replace(event, part=replace(event.part, **changed))


def _delta(event: PartStartEvent | PartDeltaEvent, text: str) -> Any:
    of = event.delta if isinstance(event, PartDeltaEvent) else event.part
    if isinstance(of, ToolCallPart | ToolCallPartDelta):
        return ToolCallPartDelta(args_delta=text)
    return TextPartDelta(text) if isinstance(of, TextPart | TextPartDelta) else ThinkingPartDelta(content_delta=text)
