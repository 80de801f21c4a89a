"""AG-UI 1.0 events as we send them: small dictionaries in wire names, and their bytes.

Our own encoder, because validating a model for every token of every stream costs more than the stream itself; a test
holds each event against ``ag_ui.core``. https://docs.ag-ui.com, schema 1.0.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Event: TypeAlias = dict[str, Any]

PROTOCOL_VERSION: Final = "1.0"
SUPERSEDED: Final = "innkeeper.superseded"
DELTA_ID: Final = {
    "TEXT_MESSAGE_CONTENT": "messageId",
    "REASONING_MESSAGE_CONTENT": "messageId",
    "TOOL_CALL_ARGS": "toolCallId",
}
"""Events that carry a ``delta``, and the field that says of what: consecutive ones may be joined."""

RELAXED: Final = frozenset(
    {
        *DELTA_ID,
        "TEXT_MESSAGE_START",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "TOOL_CALL_START",
        "ACTIVITY_SNAPSHOT",
    }
)
"""Events that may be lost with the database's last half second: the run holds them and writes them again."""

UNHURRIED: Final = frozenset({"TEXT_MESSAGE_END", "REASONING_MESSAGE_END", "REASONING_END"})
"""Events that nobody waits for: what follows at once, which is mostly the end of the run, takes them along."""


def encode(event: Event) -> bytes:
    """One event as compact JSON, stamped with the time in milliseconds."""
    event["timestamp"] = time.time_ns() // 1_000_000
    try:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(event), ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return without_surrogates(text).encode()


def sse(seq: int, event: bytes) -> bytes:
    """One server-sent event; ``seq`` is what a client gives back as ``Last-Event-ID``."""
    return b"id: %d\ndata: %b\n\n" % (seq, event)


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not have, which models write as 1e999: a client would break at them."""
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def without_surrogates(text: str) -> str:
    """Join surrogate pairs that a model sent as two characters, replace lone halves: neither exists in UTF-8."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def storable(text: str) -> str:
    """As PostgreSQL can keep it: without U+0000 and halves of surrogate pairs."""
    return without_surrogates(text).replace("\x00", "\ufffd")


def run_started(thread_id: str, run_id: str) -> Event:
    return {"type": "RUN_STARTED", "threadId": thread_id, "runId": run_id, "protocolVersion": PROTOCOL_VERSION}


def run_finished(
    thread_id: str,
    run_id: str,
    *,
    pending: Sequence[str] = (),
    interrupts: Sequence[dict[str, Any]] = (),
    cancelled: bool = False,
    usage: Sequence[dict[str, Any]] = (),
) -> Event:
    outcome: dict[str, Any] = {"type": "cancelled"} if cancelled else {"type": "success"}
    if interrupts:
        outcome = {"type": "interrupt", "interrupts": list(interrupts)}
    elif pending:
        outcome["pendingToolCallIds"] = list(pending)
    event: Event = {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id, "outcome": outcome}
    if usage:
        event["usage"] = list(usage)
    return event


def run_error(code: str, message: str) -> Event:
    return {"type": "RUN_ERROR", "code": code, "message": message}


def text_start(message_id: str) -> Event:
    return {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}


def text_end(message_id: str) -> Event:
    return {"type": "TEXT_MESSAGE_END", "messageId": message_id}


def reasoning_start(message_id: str) -> list[Event]:
    return [
        {"type": "REASONING_START", "messageId": message_id},
        {"type": "REASONING_MESSAGE_START", "messageId": message_id, "role": "reasoning"},
    ]


def reasoning_end(message_id: str) -> list[Event]:
    return [
        {"type": "REASONING_MESSAGE_END", "messageId": message_id},
        {"type": "REASONING_END", "messageId": message_id},
    ]


def tool_start(call_id: str, name: str, parent_id: str) -> Event:
    return {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name, "parentMessageId": parent_id}


def tool_end(call_id: str) -> Event:
    return {"type": "TOOL_CALL_END", "toolCallId": call_id}


def tool_result(message_id: str, call_id: str, content: str) -> Event:
    return {
        "type": "TOOL_CALL_RESULT",
        "messageId": message_id,
        "toolCallId": call_id,
        "content": content,
        "role": "tool",
    }


def state_snapshot(state: Any) -> Event:
    return {"type": "STATE_SNAPSHOT", "snapshot": state}


def state_delta(patch: Sequence[dict[str, Any]]) -> Event:
    """``patch``: RFC 6902."""
    return {"type": "STATE_DELTA", "delta": list(patch)}


def messages_snapshot(messages: Sequence[dict[str, Any]]) -> Event:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(messages)}


def superseded(messages: Sequence[str], calls: Sequence[str]) -> Event:
    """The step these belong to broke off with its process and is made again: what they say counts no more."""
    value = {"messageIds": list(messages), "toolCallIds": list(calls)}
    return {"type": "CUSTOM", "name": SUPERSEDED, "value": value}


def delta(kind: str, of: str, text: str) -> Event:
    """A piece of text, reasoning or arguments; ``kind`` is a key of :data:`DELTA_ID`."""
    return {"type": kind, DELTA_ID[kind]: of, "delta": text}
