"""What was said in a thread before its first run: messages that its client brings along."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

from agents import run_input
from agents.history import user_content
from db.errors import invalid
from db.ids import uuid7
from db.transcript import ABOUT, OURS


def told(messages: Sequence[Mapping[str, Any]], about: Sequence[Any]) -> list[ModelMessage]:
    """``messages`` of users, assistants and systems in AG-UI's words, without ids; ``about``: what their client says of
    each. Raises AppError for content that cannot be kept."""
    named = [{"id": str(uuid7()), **message} for message in messages]
    asked = run_input.parse(json.dumps({"threadId": "new", "runId": "none", "messages": named}).encode())
    return [_told(message, said) for message, said in zip(asked.messages, about, strict=True)]


def _told(message: Any, about: Any) -> ModelMessage:
    ours: dict[str, Any] = {} if about is None else {ABOUT: about}
    if message.role == "assistant":
        metadata = {OURS: {"message": message.id, **ours}}
        return ModelResponse(parts=[TextPart(message.content or "")], metadata=metadata)
    if message.role == "system":
        return ModelRequest(parts=[SystemPromptPart(message.content)], metadata={OURS: {"ids": [message.id], **ours}})
    if message.role != "user":
        raise invalid(f"A thread cannot begin with a message of the role '{message.role}'.", "Leave it out.")
    return ModelRequest(
        parts=[UserPromptPart(user_content(message, None))], metadata={OURS: {"ids": [message.id], **ours}}
    )
