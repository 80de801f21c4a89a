"""Tells a run as AG-UI events: from what pydantic-ai's stream says to the run's event log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from pydantic_ai.messages import (
    AgentStreamEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
)
from pydantic_core import from_json, to_json

from agents import agui, component_stream
from agents.component_offers import PREFIX, Component
from agents.component_stream import ComponentStream
from agents.event_log import EventLog
from agents.model_errors import bad_response
from db import transcript
from db.ids import uuid7
from db.json_text import JsonText

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
NOTHING_SHOWN: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class _Call:
    """A call that is being told. ``arguments``: as much of what its model writes as is JSON."""

    id: str
    arguments: JsonText = field(default_factory=JsonText)

    def written(self, text: str) -> str:
        return self.arguments.feed(_without_nul(text))


class Narrator:
    """One a run. What it opens (a text, a span of reasoning, a call's arguments) it closes, whatever happens.

    ``told``: how many results of each call the log has already, from before the run was taken over; ``showing``: the
    components that it has not said the end of, by their calls. ``components``: what calls of these tools show.
    """

    def __init__(
        self, log: EventLog, told: Mapping[str, int] = NOTHING, showing: Mapping[str, str] = NOTHING_SHOWN
    ) -> None:
        self.components: Mapping[str, Component] = {}
        self._log = log
        self._told = told
        self._showing = dict(showing)
        self._results: Counter[str] = Counter()
        self._order: dict[str, None] = {}
        self._text: str | None = None
        self._reasoning: str | None = None
        self._calls: dict[int, _Call | ComponentStream] = {}
        self._shown: dict[str, dict[str, Any]] = {}
        self._parent = str(uuid7())
        self._first: str | None = None
        self._half: tuple[str, str, str] | None = None
        self._answering = False
        self._said: dict[str, list[str]] = {}
        self._parts: dict[int, str] = {}

    def tell(self, event: AgentStreamEvent) -> None:
        """Say in AG-UI what an event of pydantic-ai tells of the answer so far."""
        if isinstance(event, PartDeltaEvent):
            self._delta(event)
        elif isinstance(event, PartStartEvent):
            self._start(event)
        elif isinstance(event, PartEndEvent):
            self._end(event)
        elif isinstance(event, FunctionToolResultEvent):
            self._result(event.part)

    def close(self) -> None:
        """Close what is open: before a terminal event, and when a model's answer breaks off."""
        self._say_half()
        self._end_calls()
        for component_id in self._showing.values():
            self._log.emit(component_stream.ended(component_id, "cancelled"))
        self._showing.clear()
        if self._reasoning is not None:
            for event in agui.reasoning_end(self._reasoning):
                self._log.emit(event)
        if self._text is not None:
            self._log.emit(agui.text_end(self._text))
        self._text = self._reasoning = None

    def told_by_us(self, results: Sequence[ToolReturnPart]) -> None:
        """Tell results that no tool gave."""
        for part in results:
            self._result(part)

    def broken_off(self) -> dict[str, str]:
        """The texts, by the ids of their messages, that the model has said of an answer that it is still in the middle
        of."""
        return {message: "".join(said) for message, said in self._said.items()} if self._answering else {}

    def in_order(self, results: Sequence[ToolReturnPart]) -> list[str]:
        """The calls of results in the order in which these were told."""
        found = {part.tool_call_id for part in results}
        return [call_id for call_id in self._order if call_id in found]

    def ids(self) -> dict[str, object]:
        """By which ids the log has the answer that has just ended."""
        found: dict[str, object] = {"message": self._parent}
        if self._first not in (None, self._parent):
            found[transcript.FIRST] = self._first
        if self._parts:
            found[transcript.PARTS] = [self._parts[index] for index in sorted(self._parts)]
        if self._shown:
            found[transcript.COMPONENTS] = dict(self._shown)
        return found

    def _result(self, part: ToolReturnPart) -> None:
        call_id = part.tool_call_id
        if part.tool_name.startswith(PREFIX) and part.tool_name in self.components:
            component_id = self._showing.pop(call_id, None)
            if component_id is not None:
                text = part.content if isinstance(part.content, str) else part.model_response_str()
                wrong = None if part.outcome == "success" else text
                self._log.emit(component_stream.ended(component_id, "invalid" if wrong else "done", wrong))
            return
        self._results[call_id] += 1
        self._order[call_id] = None
        number = self._results[call_id]
        if number > self._told.get(call_id, 0):
            message_id = transcript.result_id(self._log.run_id, call_id, number)
            self._log.emit(agui.tool_result(message_id, call_id, agui.storable(part.model_response_str())))

    def _start(self, event: PartStartEvent) -> None:
        part = event.part
        if event.previous_part_kind is None:
            self.close()
            self._parent = str(uuid7())
            self._first = None
            self._answering = True
            self._said.clear()
            self._parts.clear()
            self._shown = {}
        if isinstance(part, TextPart):
            self._say_text(event.index, part.content)
        elif isinstance(part, ThinkingPart):
            self._think(event.index, part.content)
        elif isinstance(part, ToolCallPart) and not storable(part.tool_call_id):
            raise bad_response()
        elif isinstance(part, ToolCallPart) and part.tool_name in self.components:
            self._calls[event.index] = stream = self._show(part)
            self._parts[event.index] = stream.id
        elif isinstance(part, ToolCallPart):
            self._calls[event.index] = call = _Call(part.tool_call_id)
            self._parts[event.index] = self._parent
            self._first = self._first or self._parent
            self._log.emit(agui.tool_start(part.tool_call_id, agui.storable(part.tool_name), self._parent))
            self._say("TOOL_CALL_ARGS", call.id, call.written(_arguments(part.args)))

    def _delta(self, event: PartDeltaEvent) -> None:
        delta = event.delta
        if isinstance(delta, TextPartDelta):
            self._say_text(event.index, delta.content_delta)
        elif isinstance(delta, ThinkingPartDelta):
            self._think(event.index, delta.content_delta or "")
        elif isinstance(delta, ToolCallPartDelta):
            call = self._calls.get(event.index)
            if isinstance(call, ComponentStream):
                call.feed(_arguments(delta.args_delta))
                self._log.draw(call)
            elif call is not None:
                self._say("TOOL_CALL_ARGS", call.id, call.written(_arguments(delta.args_delta)))

    def _end(self, event: PartEndEvent) -> None:
        self._say_half()
        part, follows = event.part, event.next_part_kind
        self._answering = follows is not None
        if isinstance(part, TextPart) and self._text is not None and follows != "text":
            self._log.emit(agui.text_end(self._text))
            self._text = None
        elif isinstance(part, ThinkingPart) and self._reasoning is not None and follows != "thinking":
            for told in agui.reasoning_end(self._reasoning):
                self._log.emit(told)
            self._reasoning = None
        if follows is None:
            self._end_calls()
        elif isinstance(part, ToolCallPart) and _is_whole(part.args):
            self._end_call(event.index)

    def _end_call(self, index: int) -> None:
        call = self._calls.pop(index, None)
        if isinstance(call, ComponentStream):
            self._log.draw(call)
            if settled := call.settled():
                self._log.emit(settled)
        elif call is not None:
            self._say("TOOL_CALL_ARGS", call.id, call.arguments.close())
            self._log.emit(agui.tool_end(call.id))

    def _end_calls(self) -> None:
        for index in list(self._calls):
            self._end_call(index)

    def _show(self, part: ToolCallPart) -> ComponentStream:
        stream = ComponentStream(str(uuid7()), part.tool_call_id, self.components[part.tool_name])
        self._first = self._first or stream.id
        self._showing[stream.call_id] = stream.id
        self._shown[stream.id] = stream.kept()
        self._log.emit(stream.begun())
        stream.feed(_arguments(part.args))
        self._log.draw(stream)
        return stream

    def _say_text(self, index: int, text: str) -> None:
        """A message begins with its first words: a part without any is none."""
        if not text:
            return
        if self._text is None:
            self._text = self._parent = str(uuid7())
            self._first = self._first or self._text
            self._said[self._text] = []
            self._log.emit(agui.text_start(self._text))
        self._parts[index] = self._text
        self._said[self._text].append(text)
        self._say("TEXT_MESSAGE_CONTENT", self._text, text)

    def _think(self, index: int, text: str) -> None:
        if not text:
            return
        if self._reasoning is None:
            self._reasoning = str(uuid7())
            self._first = self._first or self._reasoning
            for told in agui.reasoning_start(self._reasoning):
                self._log.emit(told)
        self._parts[index] = self._reasoning
        self._say("REASONING_MESSAGE_CONTENT", self._reasoning, text)

    def _say(self, kind: str, of: str, text: str) -> None:
        """Say ``text`` but for half a surrogate pair at its end: the other half may be in the next piece."""
        if not text:
            return
        text = _without_nul(text)
        if self._half is not None and self._half[:2] == (kind, of):
            text, self._half = self._half[2] + text, None
        if "\ud800" <= text[-1] <= "\udbff":
            self._half, text = (kind, of, text[-1]), text[:-1]
        if text:
            self._log.delta(kind, of, text)

    def _say_half(self) -> None:
        """Nothing follows the half that was held back: it is sent, and the encoder replaces it."""
        if self._half is not None:
            half, self._half = self._half, None
            self._log.delta(*half)


def _is_whole(args: str | Mapping[str, object] | None) -> bool:
    """Whether nothing more can be said of a call though its answer goes on: some models write several calls at once."""
    if not isinstance(args, str):
        return args is not None
    try:
        return isinstance(from_json(args), dict)
    except ValueError:
        return False


def storable(call_id: str) -> bool:
    """Whether an id can be kept and given back: everything that is said of a call later names it."""
    return "\x00" not in call_id and not any("\ud800" <= character <= "\udfff" for character in call_id)


def _without_nul(text: str) -> str:
    """No client could send it back: texts with it are refused, for PostgreSQL has no place for it."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _arguments(args: str | Mapping[str, object] | None) -> str:
    if args is None or isinstance(args, str):
        return args or ""
    return to_json(args).decode() if args else ""
