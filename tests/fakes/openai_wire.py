"""The bytes of OpenAI's two APIs, written from its published schema: chat completions and Responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from uuid import uuid4

from tests.fakes.script import ToolCall, Turn

MODEL = "scripted"
CREATED = 1_700_000_000


class Wire(Protocol):
    """One answer on one API; ``step`` takes text and tool calls, in order."""

    def begin(self) -> bytes: ...
    def step(self, number: int, step: str | ToolCall) -> Iterator[bytes]: ...
    def end(self) -> bytes: ...
    def whole(self) -> dict[str, Any]: ...


class ChatCompletions:
    """``POST /v1/chat/completions``."""

    def __init__(self, request: Mapping[str, Any], turn: Turn) -> None:
        self._turn = turn
        self._id = f"chatcmpl-{uuid4().hex}"
        self._calls = 0
        asked, said = turn.tokens(request)
        self._usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        self._with_usage = bool((request.get("stream_options") or {}).get("include_usage"))

    def begin(self) -> bytes:
        return self._delta({"role": "assistant", "content": ""})

    def step(self, number: int, step: str | ToolCall) -> Iterator[bytes]:
        if isinstance(step, str):
            yield self._delta({"content": step})
            return
        index, text = self._calls, step.text
        self._calls += 1
        first = {"index": index, "id": step.id, "type": "function", "function": {"name": step.name, "arguments": ""}}
        yield self._delta({"tool_calls": [first]})
        half = len(text) // 2
        for part in (text[:half], text[half:]):
            yield self._delta({"tool_calls": [{"index": index, "function": {"arguments": part}}]})

    def end(self) -> bytes:
        data = self._delta({}, self._turn.finish)
        if self._with_usage:
            data += _data(self._chunk([]) | {"usage": self._usage})
        return data + b"data: [DONE]\n\n"

    def whole(self) -> dict[str, Any]:
        calls = [
            {"id": step.id, "type": "function", "function": {"name": step.name, "arguments": step.text}}
            for step in self._turn.steps
            if isinstance(step, ToolCall)
        ]
        text = "".join(step for step in self._turn.steps if isinstance(step, str))
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._turn.finish}
        return self._chunk([choice]) | {"object": "chat.completion", "usage": self._usage}

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _data(self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]))

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": MODEL,
            "choices": choices,
        }


class Responses:
    """``POST /v1/responses``: one message item for each run of text, one function_call item for each call."""

    def __init__(self, request: Mapping[str, Any], turn: Turn) -> None:
        self._turn = turn
        self._id = f"resp_{uuid4().hex}"
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self._tools = request.get("tools") or []
        self._usage = turn.tokens(request)

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def step(self, number: int, step: str | ToolCall) -> Iterator[bytes]:
        if isinstance(step, ToolCall):
            yield self._close_message()
            yield self._call(step)
            return
        if self._open is None:
            yield self._open_message()
        if self._open is not None:
            self._open["content"][0]["text"] += step
            yield self._event("response.output_text.delta", **self._place(), delta=step, logprobs=[])

    def end(self) -> bytes:
        return self._close_message() + self._event("response.completed", response=self._response("completed"))

    def whole(self) -> dict[str, Any]:
        steps = [step for step in self._turn.steps if isinstance(step, str | ToolCall)]
        for number, step in enumerate(steps):
            for _ in self.step(number, step):
                pass
        self._close_message()
        return self._response("completed")

    def _open_message(self) -> bytes:
        item = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        added = self._event("response.output_item.added", output_index=len(self._items), item=dict(item))
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._open = item | {"content": [part]}
        self._items.append(self._open)
        return added + self._event("response.content_part.added", **self._place(), part=dict(part))

    def _close_message(self) -> bytes:
        item = self._open
        if item is None:
            return b""
        part = item["content"][0]
        data = self._event("response.output_text.done", **self._place(), text=part["text"], logprobs=[])
        data += self._event("response.content_part.done", **self._place(), part=part)
        item["status"] = "completed"
        self._open = None
        return data + self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)

    def _call(self, call: ToolCall) -> bytes:
        index, item_id = len(self._items), f"fc_{uuid4().hex}"
        item = {"id": item_id, "type": "function_call", "call_id": call.id, "name": call.name}
        done = item | {"arguments": call.text, "status": "completed"}
        self._items.append(done)
        place = {"output_index": index, "item_id": item_id}
        opened = item | {"arguments": "", "status": "in_progress"}
        return (
            self._event("response.output_item.added", output_index=index, item=opened)
            + self._event("response.function_call_arguments.delta", **place, delta=call.text)
            + self._event("response.function_call_arguments.done", **place, arguments=call.text, name=call.name)
            + self._event("response.output_item.done", output_index=index, item=done)
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\n".encode() + _data(event)

    def _response(self, status: str) -> dict[str, Any]:
        asked, said = self._usage
        usage = {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + said,
        }
        return {
            "id": self._id,
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "model": MODEL,
            "output": self._items if status == "completed" else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": self._tools,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "usage": usage if status == "completed" else None,
        }


def _data(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"
