"""The events of a run for clients of AG-UI 0.0.44, as npm @tambo-ai/client 1.1 reduces them.

They are made of the run's committed events one by one. What these clients do not know is left out, for an event of a
type they have never heard of breaks them; what they have other words for is said in these: ``THINKING_TEXT_MESSAGE_*``
for reasoning, ``CUSTOM`` ``tambo.*`` for components and for calls that wait for the client.

A client has one message for an answer, made of text, calls and components. So everything of an answer goes under the
id of what came first in it, which its message in the thread has too (:mod:`server.v1.message`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

from agents.agui import SUPERSEDED
from db.transcript import COMPONENT
from server.v1.components import changed, is_end, started
from server.v1.message import results_of

Event = dict[str, Any]
CANCELLED: Final = "CANCELLED"
AWAITING: Final = "tambo.run.awaiting_input"
THINKING: Final = {
    "REASONING_MESSAGE_START": "THINKING_TEXT_MESSAGE_START",
    "REASONING_MESSAGE_CONTENT": "THINKING_TEXT_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END": "THINKING_TEXT_MESSAGE_END",
}


class Dialect:
    """One a reader, from the first event of the run on."""

    def __init__(self, thread_id: UUID, run_id: UUID) -> None:
        self._names = {"threadId": str(thread_id), "runId": str(run_id)}
        self._answer: str | None = None
        self._answered: str | None = None
        self._text: str | None = None
        self._results: str | None = None
        self._calls: dict[str, Event] = {}
        self._tellers: dict[str, Callable[[Event], Iterator[Event]]] = {
            "TEXT_MESSAGE_": self._say,
            "REASONING_": self._thought,
            "TOOL_CALL_": self._call,
            "ACTIVITY_": self._component,
            "RUN_": self._run,
            "CUSTOM": self._supersede,
        }

    def told(self, event: bytes) -> list[Event]:
        """What is said of one event of the log; mostly one, sometimes none."""
        said: Event = json.loads(event)
        at = said.get("timestamp")
        return [{**one, "timestamp": at} for one in self._of(said)]

    def _of(self, said: Event) -> Iterator[Event]:
        kind = said["type"]
        if kind == "TOOL_CALL_RESULT":
            yield from self._result(said)
            return
        yield from self._end_results()
        for begins_with, tell in self._tellers.items():
            if kind.startswith(begins_with):
                yield from tell(said)

    def _say(self, said: Event) -> Iterator[Event]:
        kind = said["type"]
        if kind == "TEXT_MESSAGE_START":
            self._text = self._answer = self._answer or said["messageId"]
            yield {"type": kind, "messageId": self._text, "role": "assistant"}
            return
        yield {"type": kind, "messageId": self._text, **_delta(said)}

    def _begin(self, name: str) -> Iterator[Event]:
        """The message of an answer that begins with something else than text."""
        if self._answer is None:
            self._answer = name
            yield {"type": "TEXT_MESSAGE_START", "messageId": name, "role": "assistant"}
            yield {"type": "TEXT_MESSAGE_END", "messageId": name}

    def _thought(self, said: Event) -> Iterator[Event]:
        if said["type"] in THINKING:
            yield from self._begin(said["messageId"])
            yield {"type": THINKING[said["type"]], **_delta(said)}

    def _call(self, said: Event) -> Iterator[Event]:
        call_id = said["toolCallId"]
        if said["type"] == "TOOL_CALL_START":
            yield from self._begin(said["parentMessageId"])
            self._calls[call_id] = {"toolCallId": call_id, "toolName": said["toolCallName"], "arguments": ""}
            yield {
                "type": "TOOL_CALL_START",
                "toolCallId": call_id,
                "toolCallName": said["toolCallName"],
                "parentMessageId": self._answer,
            }
            return
        if call_id in self._calls:
            self._calls[call_id]["arguments"] += said.get("delta", "")
        if said["type"] == "TOOL_CALL_END" and not self._is_whole(call_id):
            return
        yield {"type": said["type"], "toolCallId": call_id, **_delta(said)}

    def _is_whole(self, call_id: str) -> bool:
        """Whether the arguments of a call are JSON: clients break at the end of one whose are not."""
        text = self._calls[call_id]["arguments"] if call_id in self._calls else ""
        try:
            return not text or isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            return False

    def _result(self, said: Event) -> Iterator[Event]:
        """The results of all calls of an answer are one message, in whatever order they come."""
        self._answered, self._answer = self._answer or self._answered, None
        self._calls.pop(said["toolCallId"], None)
        if self._results is None:
            self._results = results_of(self._answered) if self._answered else said["messageId"]
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._results, "role": "user"}
        yield {
            "type": "TOOL_CALL_RESULT",
            "messageId": self._results,
            "toolCallId": said["toolCallId"],
            "content": said["content"],
        }

    def _end_results(self) -> Iterator[Event]:
        if self._results is not None:
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._results}
            self._results = None

    def _component(self, said: Event) -> Iterator[Event]:
        if said["activityType"] != COMPONENT:
            return
        if said["type"] == "ACTIVITY_SNAPSHOT":
            yield from self._begin(said["messageId"])
            yield from started(said, self._answer or "")
            return
        for one in changed(said):
            yield one
            if is_end(one):
                self._answered, self._answer = self._answer or self._answered, None

    def _supersede(self, said: Event) -> Iterator[Event]:
        """The answer that broke off is made again: these clients keep what they have of it."""
        if said["name"] == SUPERSEDED:
            self._answer = None
            for call_id in said["value"]["toolCallIds"]:
                self._calls.pop(call_id, None)
        yield from ()

    def _run(self, said: Event) -> Iterator[Event]:
        kind = said["type"]
        if kind == "RUN_ERROR":
            yield {"type": kind, "code": said["code"], "message": said["message"]}
            return
        outcome = said.get("outcome") or {}
        if outcome.get("type") == "cancelled":
            yield {"type": "RUN_ERROR", "code": CANCELLED, "message": "The run was cancelled."}
            return
        if outcome.get("type") == "interrupt":
            yield _asks(outcome["interrupts"])
            return
        pending = [self._calls[name] for name in outcome.get("pendingToolCallIds", ()) if name in self._calls]
        if pending:
            yield {"type": "CUSTOM", "name": AWAITING, "value": {"pendingToolCalls": pending}}
        yield {"type": kind, **self._names}


def _delta(said: Event) -> Event:
    return {"delta": said["delta"]} if "delta" in said else {}


def _asks(interrupts: list[Event]) -> Event:
    """These clients have no word for a call that a person is to allow."""
    asked = " ".join(f"{one['message']} {one.get('metadata', {}).get('url', '')}".strip() for one in interrupts)
    return {"type": "RUN_ERROR", "code": "approval_required", "message": f"A person has to allow this first. {asked}"}
