"""What a process needs to know of a run that another one began, from the run's own events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agents import agui, component_stream
from agents.agui import Event
from db.json_text import JsonText

OPENS: Final = {"TEXT_MESSAGE_START": "messageId", "REASONING_START": "messageId", "TOOL_CALL_START": "toolCallId"}
"""Events that open something, and the field that says what."""
CLOSES: Final = {
    "TEXT_MESSAGE_END": "TEXT_MESSAGE_START",
    "REASONING_END": "REASONING_START",
    "TOOL_CALL_END": "TOOL_CALL_START",
}


@dataclass(frozen=True, slots=True)
class Legacy:
    """``closing``: events that close what the broken step left open, and say which of its messages and calls count no
    more. ``told``: how many results of each call are in the log: models may use an id again. ``showing``: the
    components whose end is not in the log and will be, by their calls. ``broken``: how many characters each answer was
    long that a process left in the middle of the step that is made again."""

    closing: list[Event]
    told: Mapping[str, int]
    showing: Mapping[str, str]
    broken: Sequence[int] = ()


def legacy(frames: Sequence[bytes], steps_until: int) -> Legacy:
    """``frames``: all events of the run; ``steps_until``: the number of the last one before which its model had
    finished an answer. Everything a model said after that belongs to a step that will be made again."""
    showing: dict[str, str] = {}
    lost: dict[str, None] = {}
    opened: dict[tuple[str, str], None] = {}
    dropped: dict[str, list[str]] = {"messageId": [], "toolCallId": []}
    events = [json.loads(frame) for frame in frames]
    for number, event in enumerate(events, 1):
        kind = event["type"]
        if kind in OPENS:
            name = OPENS[kind]
            opened[kind, event[name]] = None
            if number > steps_until:
                dropped[name].append(event[name])
        elif kind in CLOSES:
            opening = CLOSES[kind]
            opened.pop((opening, event[OPENS[opening]]), None)
        elif kind == "ACTIVITY_SNAPSHOT" and number > steps_until:
            dropped["messageId"].append(event["messageId"])
            lost[event["messageId"]] = None
        elif kind == "ACTIVITY_SNAPSHOT":
            showing[event["content"]["toolCallId"]] = event["messageId"]
        elif kind == "ACTIVITY_DELTA" and any(one["path"] == "/status" for one in event["patch"]):
            lost.pop(event["messageId"], None)
            showing = {call_id: shown for call_id, shown in showing.items() if shown != event["messageId"]}
    closing = [event for kind, of in opened for event in _closed(kind, of, events)]
    closing += [component_stream.ended(component_id, "superseded") for component_id in lost]
    if any(dropped.values()):
        closing.append(agui.superseded(dropped["messageId"], dropped["toolCallId"]))
    told = Counter(event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_RESULT")
    return Legacy(closing, told, showing, _lengths(events[steps_until:]))


def _lengths(events: Sequence[Event]) -> list[int]:
    """Of the answers that these events break off: each ends where it is said to count no more."""
    lengths = [0]
    for event in events:
        if event["type"] in agui.DELTA_ID:
            lengths[-1] += len(event["delta"])
        elif event["type"] == "ACTIVITY_DELTA":
            lengths[-1] += len(json.dumps(event["patch"]))
        elif event["type"] == "CUSTOM" and event["name"] == agui.SUPERSEDED:
            lengths.append(0)
    return [length for length in lengths if length]


def _closed(kind: str, of: str, events: Sequence[Event]) -> list[Event]:
    if kind == "REASONING_START":
        return agui.reasoning_end(of)
    if kind == "TEXT_MESSAGE_START":
        return [agui.text_end(of)]
    arguments = JsonText()
    for event in events:
        if event["type"] == "TOOL_CALL_ARGS" and event["toolCallId"] == of:
            arguments.feed(event["delta"])
    rest = arguments.close()
    return [*([agui.delta("TOOL_CALL_ARGS", of, rest)] if rest else ()), agui.tool_end(of)]
