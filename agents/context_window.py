"""How much of a long conversation a model is given: its newest part, cut only where nothing is torn apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ToolReturnPart, UserPromptPart

CHARACTERS_PER_TOKEN: Final = 4
MOST_MESSAGES: Final = 1_000
"""Of a thread: to prepare more takes longer than others want to wait."""
LARGEST: Final = 16 << 20
"""Characters of JSON, pictures and all: no model reads more."""


def within(messages: Sequence[ModelMessage], max_input_tokens: int | None) -> list[ModelMessage]:
    """The newest messages that fit by estimate, from something that a user said on: what calls came to stays with them.
    What was said last is always there, however long it is. The agent's instructions are no message, and are never cut.
    """
    room = LARGEST if max_input_tokens is None else min(LARGEST, max_input_tokens * CHARACTERS_PER_TOKEN)
    earliest = len(messages) - MOST_MESSAGES
    start: int | None = None
    for index in range(len(messages) - 1, -1, -1):
        room -= len(ModelMessagesTypeAdapter.dump_json([messages[index]]))
        full = room < 0 or index < earliest
        if full and start is not None:
            break
        if _begins(messages[index]):
            start = index
            if full:
                break
    return list(messages[start or 0 :])


def _begins(message: ModelMessage) -> bool:
    """Whether a conversation may begin here: with a user's words, and without results of calls made before."""
    kinds = {type(part) for part in message.parts} if isinstance(message, ModelRequest) else set()
    return UserPromptPart in kinds and ToolReturnPart not in kinds
