"""Messages as ``/v1`` says them: ``Message`` of npm @tambo-ai/typescript-sdk 0.96, one for each row of a thread.

An answer has the id under which :mod:`server.v1.dialect` streamed it, so that who has heard it knows it again.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from db.transcript import ABOUT, FIRST, OURS, by_row
from server.v1.thread import moment
from server.v1.translate import is_text

if TYPE_CHECKING:
    import asyncpg

Block = dict[str, Any]


def messages(rows: Sequence[asyncpg.Record]) -> list[dict[str, Any] | None]:
    """Of consecutive rows, in the order they were said; ``None`` for a row that says nothing to a client."""
    behind = [None, *(_name(row) for row in rows)]
    return [_message(row, said, name) for row, said, name in zip(rows, by_row(rows), behind, strict=False)]


def results_of(answer: str) -> str:
    """The id of the message that has what the calls of an answer came to."""
    return f"{answer}-results"


def _name(row: asyncpg.Record) -> str | None:
    """The id of an answer; the other rows have those of what they say."""
    if row["role"] != "assistant":
        return None
    ours = (row["content"].get("metadata") or {}).get(OURS, {})
    return str(ours.get(FIRST) or ours.get("message") or row["id"])


def _message(row: asyncpg.Record, said: Sequence[dict[str, Any]], behind: str | None) -> dict[str, Any] | None:
    """``behind``: the id of the answer before it, if that is one."""
    content = [block for one in said for block in _blocks(one)]
    if not content:
        return None
    ours = (row["content"].get("metadata") or {}).get(OURS, {})
    name = _name(row) or (results_of(behind) if behind and said[0]["role"] == "tool" else said[0]["id"])
    role = "system" if said[0]["role"] == "system" else row["role"]
    message = {"id": name, "role": role, "content": content, "createdAt": moment(row["created_at"])}
    if ABOUT in ours:
        message["metadata"] = ours[ABOUT]
    if row["role"] == "assistant" and row["status"] == "cancelled":
        message["isCancelled"] = True
    return message


def _blocks(said: dict[str, Any]) -> Iterable[Block]:
    """Of one AG-UI message."""
    kind = said["role"]
    if kind == "tool":
        yield {
            "type": "tool_result",
            "toolUseId": said["toolCallId"],
            "content": [_text(said.get("error", said["content"]))],
            **({"isError": True} if "error" in said else {}),
        }
    elif kind == "activity" and said["content"]["status"] != "invalid":
        shown = said["content"]
        state = {} if shown["state"] is None else {"state": shown["state"]}
        yield {"type": "component", "id": said["id"], "name": shown["name"], "props": shown["props"], **state}
    elif kind in ("user", "assistant", "system"):
        found = said.get("content") or []
        yield from ([_text(found)] if isinstance(found, str) else map(_part, found))
        for call in said.get("toolCalls", ()):
            called = call["function"]
            yield {"type": "tool_use", "id": call["id"], "name": called["name"], "input": _object(called["arguments"])}


def _part(part: dict[str, Any]) -> Block:
    if part["type"] == "text":
        return _text(part["text"])
    source = part["source"]
    resource = {"mimeType": source.get("mimeType")} if source.get("mimeType") else {}
    if source["type"] == "url":
        resource["uri"] = source["value"]
    elif is_text(resource.get("mimeType", "")):
        resource["text"] = _decoded(source["value"])
    else:
        resource["blob"] = source["value"]
    return {"type": "resource", "resource": resource}


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _object(arguments: str) -> Any:
    """What a model meant by its arguments, which need not be JSON."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return {}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
