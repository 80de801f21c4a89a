"""A thread as clients have it: AG-UI 1.0 messages, made of the rows that models read from.

A row holds one message as pydantic-ai spells it; here it is read as plain JSON, so that nothing needs that library.
What of a message the house added (``metadata`` under ``innkeeper``) says by which ids its client knows it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID, uuid5

if TYPE_CHECKING:
    import asyncpg

OURS: Final = "innkeeper"
CONTEXT: Final = "context"
"""Marks text of a user's message that the application added for the model."""

Message: TypeAlias = dict[str, Any]
_TYPES: Final = {"image": "image", "audio": "audio", "video": "video"}


def result_id(run_id: UUID, call_id: str, number: int = 1) -> str:
    """The id of the message that a tool's result becomes: the same in the run's events and in its thread. ``number``:
    which result of this call id in the run, since some models use an id again."""
    return str(uuid5(run_id, f"{call_id}#{number}"))


def messages(rows: Sequence[asyncpg.Record]) -> list[Message]:
    """AG-UI messages of consecutive rows with ``id``, ``run_id`` and ``content``."""
    counted: Counter[tuple[UUID, str]] = Counter()
    return [message for row in rows for message in _of(row, counted)]


def _of(row: asyncpg.Record, counted: Counter[tuple[UUID, str]]) -> Iterator[Message]:
    content = row["content"]
    ours = (content.get("metadata") or {}).get(OURS, {})
    if content["kind"] == "response":
        yield from _answer(content["parts"], ours, str(row["id"]))
        return
    ids = list(ours.get("ids", ()))
    for number, part in enumerate(content["parts"]):
        theirs = ids[number] if number < len(ids) else None
        if part["part_kind"] == "user-prompt":
            yield {"id": theirs or f"{row['id']}-{number}", "role": "user", "content": _said(part["content"])}
        elif "tool_call_id" in part and part.get("tool_name"):
            call_id = part["tool_call_id"]
            counted[row["run_id"], call_id] += 1
            own = result_id(row["run_id"], call_id, counted[row["run_id"], call_id])
            yield _result(part, theirs or own)


def _answer(parts: Sequence[Mapping[str, Any]], ours: Mapping[str, Any], row_id: str) -> Iterator[Message]:
    reasoning = list(ours.get("reasoning", ()))
    thoughts = [part["content"] for part in parts if part["part_kind"] == "thinking" and part["content"]]
    if thoughts:
        name = reasoning[0] if reasoning else f"{row_id}-reasoning"
        yield {"id": name, "role": "reasoning", "content": "".join(thoughts)}
    text = "".join(part["content"] for part in parts if part["part_kind"] == "text")
    calls = [_call(part) for part in parts if part["part_kind"] == "tool-call"]
    if not text and not calls:
        return
    message: Message = {"id": ours.get("message", row_id), "role": "assistant"}
    if text:
        message["content"] = text
    if calls:
        message["toolCalls"] = calls
    yield message


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    arguments = part["args"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": part["tool_call_id"], "type": "function", "function": {"name": part["tool_name"], "arguments": text}}


def _result(part: Mapping[str, Any], message_id: str) -> Message:
    text = _text(part["content"])
    message = {"id": message_id, "role": "tool", "toolCallId": part["tool_call_id"], "content": text}
    if part.get("outcome", "retried") != "success":
        message["error"] = text
    return message


def _said(content: str | Sequence[Any]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts = [part for piece in content if (part := _part(piece)) is not None]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts


def _part(piece: Any) -> dict[str, Any] | None:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    kind = piece.get("kind", "")
    if kind == "text-content":
        added = (piece.get("metadata") or {}).get(OURS) == CONTEXT
        return None if added else {"type": "text", "text": piece["content"]}
    media_type = piece.get("media_type") or ""
    if kind == "binary":
        value = piece["data"].replace("-", "+").replace("_", "/")
        source = {"type": "data", "value": value, "mimeType": media_type}
        return {"type": _TYPES.get(media_type.partition("/")[0], "document"), "source": source}
    if kind.endswith("-url"):
        source = {"type": "url", "value": piece["url"]}
        if media_type:
            source["mimeType"] = media_type
        return {"type": kind.removesuffix("-url"), "source": source}
    return None


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
