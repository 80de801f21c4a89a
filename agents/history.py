"""The conversation a model sees: our stored history, and what is new in the client's messages.

The stored history counts. Of the client's messages only those of the trailing block of ``user`` and ``tool`` messages
are read that we have not stored under their ids before. A ``tool`` message answers a call of a client-side tool that
the last answer left open; every other one is an echo and is passed over.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ag_ui.core import Message, ToolMessage, UserMessage
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    VideoUrl,
    repair_messages,
)

from agents import attachment_address, open_calls
from agents.agui import storable
from agents.component_state import with_states
from agents.context_window import within
from agents.interrupts import Answered
from agents.run_input import RunInput
from db.aside import SMALL
from db.errors import invalid
from db.ids import uuid7
from db.runs import StoredMessage
from db.transcript import ABOUT, COMPONENTS, CONTEXT, OURS, PARTS

MOST_PARTS: Final = 500
"""Of what a client says at once."""
Link: TypeAlias = AudioUrl | DocumentUrl | ImageUrl | VideoUrl
LINKS: Final[dict[str, type[Link]]] = {
    "image": ImageUrl,
    "audio": AudioUrl,
    "video": VideoUrl,
    "document": DocumentUrl,
}


@dataclass(frozen=True)
class Turn:
    """``messages`` end with a request for the model to answer; ``said`` is what of it is new and to be stored.

    ``decisions``: where they end with calls that waited for a person instead, what becomes of each: made, or denied
    with these words. ``answered``: what the client's answers are to be recorded as. ``differs``: the
    client has other messages than the thread.
    """

    messages: list[ModelMessage]
    said: ModelRequest | None
    decisions: Mapping[str, str | None] = field(default_factory=dict)
    answered: Sequence[Answered] = ()
    differs: bool = False

    @property
    def denied(self) -> list[ToolReturnPart]:
        """Results that we have given ourselves, to calls that the client passed over."""
        parts = self.said.parts if self.said else ()
        return [part for part in parts if isinstance(part, ToolReturnPart) and part.outcome == "denied"]


def next_turn(stored: str, asked: RunInput, max_input_tokens: int | None = None) -> Turn:
    """Raises AppError when there is nothing to answer, or what is open is not answered as it must be."""
    history = _read(stored)
    with_states(history)
    calls = open_calls.left_open(history)
    fresh = _fresh(asked.messages, _known_ids(history), calls.owed.keys() - calls.answered)
    if sum(1 if isinstance(one.content, str) else len(one.content or ()) for one in fresh) > MOST_PARTS:
        raise invalid(f"There is more that is new than {MOST_PARTS} parts of messages.", "Say it in fewer.")
    results = [message for message in fresh if isinstance(message, ToolMessage)]
    users = [message for message in fresh if isinstance(message, UserMessage)]
    found = open_calls.answers(calls, results, asked.resume, speaks=bool(users))
    parts, ids = found.parts, found.ids
    for message in users:
        parts.append(UserPromptPart(user_content(message, asked if message is users[-1] else None)))
        ids.append(message.id)
    ours = {"ids": ids} if asked.about is None else {"ids": ids, ABOUT: asked.about}
    said = ModelRequest(parts=parts, metadata={OURS: ours}) if parts else None
    messages = repair_messages([*history, said] if said else history, repair_last_response=not found.decisions)
    if not found.decisions and (not messages or not isinstance(messages[-1], ModelRequest)):
        raise invalid(
            "There is no new message to answer.",
            "End 'messages' with a user message whose id this thread has not seen before, or with the results of calls"
            " that wait for some.",
            "no_new_message",
        )
    new = {message.id for message in fresh}
    theirs = [one.id for one in asked.messages if one.role in ("user", "assistant") and one.id not in new]
    differs = _differs(_told_ids(history), theirs)
    if max_input_tokens is not None or len(stored) + len(asked.text) > SMALL:
        messages = within(messages, max_input_tokens)
    return Turn(messages, said, found.decisions, found.answered, differs)


def _read(stored: str) -> list[ModelMessage]:
    """The messages of a JSON array. Those of a long one are read one by one: all of them in one go would let no other
    thread do anything meanwhile."""
    if len(stored) <= SMALL:
        return ModelMessagesTypeAdapter.validate_json(stored)
    decoder = json.JSONDecoder()
    found: list[ModelMessage] = []
    at = stored.index("{")
    while at >= 0:
        _, end = decoder.raw_decode(stored, at)
        found += ModelMessagesTypeAdapter.validate_json(f"[{stored[at:end]}]")
        at = stored.find("{", end)
    return found


def _told_ids(history: Sequence[ModelMessage]) -> list[str | None]:
    """By which ids a client knows what the user and the agent said, in order; ``None``: it cannot."""
    found: list[str | None] = []
    for message in history:
        ours = (message.metadata or {}).get(OURS, {})
        if isinstance(message, ModelResponse):
            found += _answer_ids(message, ours)
            continue
        ids = ours.get("ids", ())
        for number, part in enumerate(message.parts):
            if isinstance(part, UserPromptPart):
                found.append(ids[number] if number < len(ids) else None)
    return found


def _answer_ids(answer: ModelResponse, ours: Mapping[str, Any]) -> list[str | None]:
    shown = {one["call"] for one in ours.get(COMPONENTS, {}).values()}
    if PARTS not in ours:
        said = answer.text or any(call.tool_call_id not in shown for call in answer.tool_calls)
        return [ours.get("message")] if said else []
    told = [part for part in answer.parts if isinstance(part, ToolCallPart) or _words(part)]
    named = zip(told, ours[PARTS], strict=False)
    return list(dict.fromkeys(name for part, name in named if _is_message(part, shown)))


def _words(part: ModelResponsePart) -> bool:
    return isinstance(part, TextPart | ThinkingPart) and bool(part.content)


def _is_message(part: ModelResponsePart, shown: Set[str]) -> bool:
    """Whether it is in an assistant's message: neither reasoning nor a component."""
    return isinstance(part, TextPart) or (isinstance(part, ToolCallPart) and part.tool_call_id not in shown)


def _differs(ours: Sequence[str | None], theirs: Sequence[str]) -> bool:
    """A client may begin with messages of its own, such as a greeting."""
    if not ours:
        return False
    known = set(ours)
    start = next((number for number, name in enumerate(theirs) if name in known), len(theirs))
    return list(theirs[start:]) != list(ours)


def system_texts(messages: Sequence[Message]) -> list[str]:
    """The client's own instructions, which count only where the project allows it."""
    return [message.content for message in messages if message.role in ("system", "developer") and message.content]


def to_store(messages: Sequence[ModelMessage]) -> list[StoredMessage]:
    """Messages as rows; what a model broke off before its first part is left out."""
    return [_row(message) for message in messages if message.parts]


def _row(message: ModelMessage) -> StoredMessage:
    try:
        text = ModelMessagesTypeAdapter.dump_json([message]).decode()[1:-1]
    except ValueError:
        text = json.dumps(_cleaned(ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]))
    if "\\u0000" in text:
        text = json.dumps(_cleaned(json.loads(text)))
    return StoredMessage(uuid7(), "user" if isinstance(message, ModelRequest) else "assistant", text)


def _cleaned(value: Any) -> Any:
    """The same JSON value without what jsonb cannot hold: U+0000 and lone surrogates."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(held) for key, held in value.items()}
    return [_cleaned(held) for held in value] if isinstance(value, list) else value


def _fresh(messages: Sequence[Message], known: set[str], unanswered: Set[str]) -> list[Message]:
    """``unanswered``: calls whose first result is new under whatever id it comes."""
    fresh: list[Message] = []
    for message in reversed(messages):
        if message.role in ("system", "developer"):
            continue
        if message.role not in ("user", "tool"):
            break
        if message.id in known and not (message.role == "tool" and message.tool_call_id in unanswered):
            break
        fresh.append(message)
    return fresh[::-1]


def _known_ids(history: Sequence[ModelMessage]) -> set[str]:
    known: set[str] = set()
    for message in history:
        if isinstance(message, ModelRequest) and message.metadata:
            known.update(message.metadata.get(OURS, {}).get("ids", ()))
    return known


def user_content(message: UserMessage, asked: RunInput | None) -> str | list[UserContent]:
    """What a user said, with the context of ``asked``, if that is to go with it."""
    context = "\n".join(f"{item.description}: {item.value}" for item in asked.context) if asked else ""
    if isinstance(message.content, str) and not context:
        return message.content
    content: list[UserContent] = []
    if context:
        content.append(TextContent(f"Context from the application:\n{context}", metadata={OURS: CONTEXT}))
    if isinstance(message.content, str):
        return [*content, message.content]
    content.extend(part.text if part.type == "text" else _attached(part) for part in message.content)
    return content


def _attached(part: Any) -> BinaryContent | Link:
    """What a part of a message holds: its bytes, or the address of a file of the house, which is read when needed."""
    source = part.source
    if source.type == "url" and attachment_address.ids(source.value):
        return LINKS[part.type](url=source.value, media_type=source.mime_type)
    if source.type != "data":
        raise invalid(
            f"A part of type '{part.type}' refers to its content by {source.type}, which is not read here.",
            "Upload it and send its attachment address (innkeeper://...) as a source of type 'url', or send the content"
            " itself: a source of type 'data' with base64 and a mimeType.",
            "content_not_supported",
        )
    try:
        data = base64.b64decode(source.value, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(
            f"The content of a part of type '{part.type}' is not base64.", "RFC 4648, without line breaks."
        ) from None
    return BinaryContent(data=data, media_type=source.mime_type)
