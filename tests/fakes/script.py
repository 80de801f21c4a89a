"""What a scripted model says: turns made of steps, one turn for each request it gets.

server.script(
    Turn("Let me ", "look. ", ToolCall("list_projects", {})),
    Turn("You have ", gate := Gate(), "one project."),
    Status(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}),
)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass
class ToolCall:
    """A tool call; several steps of this kind in one turn are parallel calls."""

    name: str
    arguments: Mapping[str, Any] | str  # a string is sent as it is, malformed or not
    id: str = field(default_factory=lambda: f"call_{uuid4().hex[:12]}")

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))


class Gate:
    """Holds the stream until the test opens it; ``await gate.reached.wait()`` says that everything before was sent."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        self.reached.set()
        await self._opened.wait()


@dataclass(frozen=True)
class Raw:
    """Bytes put on the wire as they are, between events."""

    data: bytes


MALFORMED = Raw(b'data: {"choices": [{"delta": {"content"\n\n')


class Reset:
    """The connection breaks here: no last chunk, no end of the body."""


class Hang:
    """Nothing more comes until the client goes away."""


class Moment:
    """A word that tells when it is said: ``@`` and the nanoseconds of this machine's monotonic clock."""

    @property
    def text(self) -> str:
        return f"@{time.monotonic_ns()} "


Step = str | ToolCall | Gate | Raw | Reset | Hang | Moment


class Turn:
    """One answer of the model. ``usage``: (input, output) tokens; counted from the words when not given."""

    def __init__(self, *steps: Step, usage: tuple[int, int] | None = None, finish: str | None = None) -> None:
        self.steps = steps
        self.usage = usage
        calls = any(isinstance(step, ToolCall) for step in steps)
        self.finish = finish or ("tool_calls" if calls else "stop")

    def tokens(self, request: Mapping[str, Any]) -> tuple[int, int]:
        asked = json.dumps(request.get("messages", request.get("input", "")))
        return self.usage or (
            len(asked.split()),
            sum(1 for step in self.steps if isinstance(step, str | ToolCall | Moment)),
        )


@dataclass(frozen=True)
class Status:
    """An HTTP error instead of an answer."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Turn | Status


def unscripted(request: Mapping[str, Any]) -> Turn:
    """What the model says when nothing is scripted; the last user message decides.

    ``{"call": "create_project", "args": {...}}`` calls that tool and then reports its result; ``{"calls": [...]}``
    makes several calls at once; ``{"tokens": 200}`` writes so many words, ``{"moments": 200}`` the moments at which it
    does, and with ``"hang": true`` says no more and does not end; any other text is echoed.
    """
    messages = request.get("messages") or _messages_of(request.get("input"))
    results = []
    for message in reversed(messages):
        if message.get("role") == "tool":
            results.append(_text(message.get("content")))
        elif message.get("role") == "user":
            return _reply(_text(message.get("content")), list(reversed(results)))
    return Turn("Hello.")


def asked(request: Mapping[str, Any]) -> tuple[str, int]:
    """The last user message, and how many answers the model has given since."""
    messages = request.get("messages") or _messages_of(request.get("input"))
    answers = 0
    for message in reversed(messages):
        if message.get("role") == "user":
            return _text(message.get("content")), answers
        answers += message.get("role") == "assistant"
    return "", answers


def _reply(said: str, results: list[str]) -> Turn:
    if results:
        return Turn("Done: ", *(result[:2000] for result in results))
    try:
        wish = json.loads(said)
    except ValueError:
        wish = None
    if isinstance(wish, dict) and ("call" in wish or "calls" in wish):
        calls = wish.get("calls") or [wish]
        return Turn(*(ToolCall(call["call"], call.get("args", {})) for call in calls))
    if isinstance(wish, dict) and "moments" in wish:
        return Turn(*(Moment() for _ in range(int(wish["moments"]))), *([Hang()] if wish.get("hang") else []))
    if isinstance(wish, dict) and "tokens" in wish:
        return Turn(*(f"word{number} " for number in range(int(wish["tokens"]))))
    return Turn("You ", "said: ", said)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _messages_of(items: object) -> list[dict[str, Any]]:
    """The input of the Responses API, in the shape of chat completions."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    messages = []
    for item in items if isinstance(items, list) else []:
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item.get("output")})
        elif "role" in item:
            messages.append(item)
    return messages
