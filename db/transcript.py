"""A thread as clients have it: AG-UI 1.0 messages, made of the rows that models read from.

A row holds one message as pydantic-ai spells it; here it is read as plain JSON, so that nothing needs that library.
What of a message the house added (``metadata`` under ``innkeeper``) says by which ids its client knows it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID, uuid5

from pydantic_core import from_json

from db.json_text import whole

if TYPE_CHECKING:
    import asyncpg

OURS: Final = "innkeeper"
COMPONENT: Final = "innkeeper.component"
"""The ``activityType`` of a component that an agent showed."""
COMPONENTS: Final = "components"
"""Where in :data:`OURS` an answer keeps the components it shows, by their ids."""
FIRST: Final = "first"
"""Where in :data:`OURS` an answer keeps the id of what was told first of it, where that is not its message's."""
PARTS: Final = "parts"
"""Where in :data:`OURS` an answer keeps by which ids it was told: one for each of its parts that tells something."""
RESULTS: Final = "results"
"""Where in :data:`OURS` a message keeps the calls whose results it has, in the order in which these were told: calls
that are made at once end in any order."""
ABOUT: Final = "about"
"""Where in :data:`OURS` a message of a client keeps what that says of it."""
CONTEXT: Final = "context"
"""Marks text of a user's message that the application added for the model."""

Message: TypeAlias = dict[str, Any]
_TYPES: Final = {"image": "image", "audio": "audio", "video": "video"}


def result_id(run_id: UUID, call_id: str, number: int = 1) -> str:
    """The id of the message that a tool's result becomes: the same in the run's events and in its thread. ``number``:
    which result of this call id in the run, since some models use an id again."""
    return str(uuid5(run_id, f"{call_id}#{number}"))


@dataclass(slots=True)
class _Reading:
    """What earlier messages say of later ones: how often each call of a run was answered, and which calls of the last
    answer show components."""

    counted: Counter[tuple[UUID, str]] = field(default_factory=Counter)
    shown: dict[str, Message] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    """The ids of those that the house gave."""


def messages(rows: Sequence[asyncpg.Record]) -> list[Message]:
    """AG-UI messages of consecutive rows with ``id``, ``run_id`` and ``content``: what a client has that heard all that
    was told of them, in its order."""
    reading = _Reading()
    found: list[Message] = []
    for row in rows:
        for message in _of(row, reading):
            if message["id"] in reading.results:
                message.pop("error", None)
                found.insert(_place(found, message["toolCallId"]), message)
            else:
                found.append(message)
    return found


def by_row(rows: Sequence[asyncpg.Record]) -> list[list[Message]]:
    """The messages of each row for themselves, and why calls failed. How a component came out is said by the row
    behind."""
    reading = _Reading()
    return [list(_of(row, reading)) for row in rows]


def _place(found: Sequence[Message], call_id: str) -> int:
    """Where a result of the house goes: behind its call and that call's other results, as @ag-ui/client 1.0 has it."""
    for number in range(len(found) - 1, -1, -1):
        if any(call["id"] == call_id for call in found[number].get("toolCalls", ())):
            behind = number + 1
            while behind < len(found) and found[behind]["role"] == "tool":
                behind += 1
            return behind
    return len(found)


def _of(row: asyncpg.Record, reading: _Reading) -> Iterator[Message]:
    content = row["content"]
    ours = (content.get("metadata") or {}).get(OURS, {})
    if content["kind"] == "response":
        reading.shown = _components(content["parts"], ours.get(COMPONENTS, {}))
        yield from _answer(content["parts"], ours, str(row["id"]), reading.shown)
        return
    ids = list(ours.get("ids", ()))
    order = {call_id: place for place, call_id in enumerate(ours.get(RESULTS, ()))}
    parts = sorted(enumerate(content["parts"]), key=lambda each: order.get(each[1].get("tool_call_id"), -1))
    for number, part in parts:
        theirs = ids[number] if number < len(ids) else None
        if part["part_kind"] == "user-prompt":
            yield {"id": theirs or f"{row['id']}-{number}", "role": "user", "content": _said(part["content"])}
        elif part["part_kind"] == "system-prompt":
            yield {"id": theirs or f"{row['id']}-{number}", "role": "system", "content": part["content"]}
        elif part.get("tool_call_id") in reading.shown:
            _conclude(reading.shown[part["tool_call_id"]]["content"], part)
        elif "tool_call_id" in part and part.get("tool_name"):
            call_id = part["tool_call_id"]
            reading.counted[row["run_id"], call_id] += 1
            if theirs:
                yield _given(part, theirs)
                continue
            own = result_id(row["run_id"], call_id, reading.counted[row["run_id"], call_id])
            reading.results.add(own)
            yield _result(part, own)


def _answer(
    parts: Sequence[Mapping[str, Any]], ours: Mapping[str, Any], row_id: str, shown: Mapping[str, Message]
) -> Iterator[Message]:
    if PARTS in ours:
        yield from _told(parts, ours[PARTS], shown)
        return
    # As answers were kept before their parts had ids.
    reasoning = list(ours.get("reasoning", ()))
    thoughts = [part["content"] for part in parts if part["part_kind"] == "thinking" and part["content"]]
    if thoughts:
        name = reasoning[0] if reasoning else f"{row_id}-reasoning"
        yield {"id": name, "role": "reasoning", "content": "".join(thoughts)}
    text = "".join(part["content"] for part in parts if part["part_kind"] == "text")
    calls = [_call(part) for part in parts if part["part_kind"] == "tool-call" and part["tool_call_id"] not in shown]
    if text or calls:
        message: Message = {"id": ours.get("message", row_id), "role": "assistant"}
        if text:
            message["content"] = text
        if calls:
            message["toolCalls"] = calls
        yield message
    yield from shown.values()


def _told(parts: Sequence[Mapping[str, Any]], ids: Sequence[str], shown: Mapping[str, Message]) -> Iterator[Message]:
    """The messages of an answer in the order in which they began."""
    found: dict[str, Message] = {}
    for part, name in zip((part for part in parts if _tells(part)), ids, strict=False):
        if part["part_kind"] == "thinking":
            message = found.setdefault(name, {"id": name, "role": "reasoning"})
            message["content"] = message.get("content", "") + part["content"]
        elif part.get("tool_call_id") in shown:
            found[name] = shown[part["tool_call_id"]]
        else:
            message = found.setdefault(name, {"id": name, "role": "assistant"})
            if part["part_kind"] == "text":
                message["content"] = message.get("content", "") + part["content"]
            else:
                message.setdefault("toolCalls", []).append(_call(part))
    yield from found.values()


def _tells(part: Mapping[str, Any]) -> bool:
    return part["part_kind"] == "tool-call" or (part["part_kind"] in ("text", "thinking") and bool(part["content"]))


def _components(parts: Sequence[Mapping[str, Any]], kept: Mapping[str, Any]) -> dict[str, Message]:
    """The components that an answer shows, by their calls. Each is cancelled unless its call has a result."""
    found: dict[str, Message] = {}
    arguments = {part["tool_call_id"]: part["args"] for part in parts if part["part_kind"] == "tool-call"}
    for component_id, one in kept.items():
        if one["call"] not in arguments:
            continue
        content = {
            "name": one["name"],
            "toolCallId": one["call"],
            "status": "cancelled",
            "props": props(arguments[one["call"]]),
            "streaming": {},
            "state": one.get("state"),
        }
        found[one["call"]] = {"id": component_id, "role": "activity", "activityType": COMPONENT, "content": content}
    return found


def _conclude(content: dict[str, Any], part: Mapping[str, Any]) -> None:
    content["streaming"] = dict.fromkeys(content["props"], "done")
    if part.get("outcome", "retried") == "success":
        content["status"] = "done"
    else:
        content["status"] = "invalid"
        content["error"] = _text(part["content"])


def props(arguments: Any) -> dict[str, Any]:
    """The props of a component; none, if what its model wrote is no object of JSON, ``1e999`` in it, or too deep."""
    if isinstance(arguments, str):
        try:
            arguments = from_json(arguments)
            json.dumps(arguments, allow_nan=False)
        except ValueError:
            return {}
    return arguments if isinstance(arguments, dict) else {}


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    arguments = part["args"]
    text = whole(arguments) if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": part["tool_call_id"], "type": "function", "function": {"name": part["tool_name"], "arguments": text}}


def _result(part: Mapping[str, Any], message_id: str) -> Message:
    """A result of the house, as the model and the events were told it."""
    text, outcome = _text(part["content"]), part.get("outcome", "retried")
    message = {"id": message_id, "role": "tool", "toolCallId": part["tool_call_id"], "content": text}
    if outcome in ("failed", "retried"):
        message["content"] = json.dumps({"error": text}, ensure_ascii=False, separators=(",", ":"))
    if outcome != "success":
        message["error"] = text
    return message


def _given(part: Mapping[str, Any], message_id: str) -> Message:
    """A result of a client's tool, as that gave it."""
    text = _text(part["content"])
    given = (part.get("metadata") or {}).get(OURS)
    if given is None:
        given = {"content": text} if part.get("outcome", "success") == "success" else {"content": text, "error": text}
    return {"id": message_id, "role": "tool", "toolCallId": part["tool_call_id"], **given}


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
