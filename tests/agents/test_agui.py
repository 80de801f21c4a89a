"""Our own encoder against the protocol's models."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from ag_ui.core import Event as AGUIEvent
from pydantic import TypeAdapter
from pydantic_ai.messages import PartDeltaEvent, PartEndEvent, PartStartEvent, TextPart, TextPartDelta

from agents import agui
from agents.agui import Event
from agents.event_log import EventLog
from agents.live_run import INTERRUPTED, error_event
from agents.narrator import Narrator

EVENT = TypeAdapter(AGUIEvent)
USAGE = [{"model": "m", "inputTokens": 1, "outputTokens": 2, "totalTokens": 3}]
EVERY: list[Event] = [
    agui.run_started("t", "r"),
    agui.run_finished("t", "r"),
    agui.run_finished("t", "r", pending=["c1", "c2"], usage=USAGE),
    agui.run_finished("t", "r", cancelled=True),
    agui.run_error("code", "What to do."),
    error_event(INTERRUPTED),
    agui.text_start("m"),
    agui.text_end("m"),
    *agui.reasoning_start("m"),
    *agui.reasoning_end("m"),
    agui.tool_start("c", "list_projects", "m"),
    agui.tool_end("c"),
    agui.tool_result("m", "c", "{}"),
    *(agui.delta(kind, "x", "text") for kind in agui.DELTA_ID),
]


@pytest.mark.promise("HOME-20")
@pytest.mark.parametrize("event", EVERY, ids=lambda event: event["type"])
def test_every_event_we_can_send_is_one_of_the_protocols_with_nothing_unknown_in_it(event: Event) -> None:
    encoded = agui.encode(dict(event))
    parsed = EVENT.validate_json(encoded)
    assert parsed.model_extra == {}
    assert json.loads(encoded).items() >= event.items()
    assert b"\n" not in encoded


def test_a_text_that_utf8_cannot_hold_is_sent_as_one_that_it_can() -> None:
    split_emoji = agui.encode(agui.delta("TEXT_MESSAGE_CONTENT", "m", "\ud83d\ude00"))
    assert json.loads(split_emoji)["delta"] == "\N{GRINNING FACE}"
    lone_half = agui.encode(agui.delta("TEXT_MESSAGE_CONTENT", "m", "a\ud83d"))
    assert json.loads(lone_half)["delta"] == "a\N{REPLACEMENT CHARACTER}"


def a_log() -> EventLog:
    return EventLog(UUID(int=1), UUID(int=2), 1, [b"{}"], lambda _log, _due: None)


def test_deltas_of_one_message_are_joined_and_nothing_is_seen_before_it_is_confirmed() -> None:
    log = a_log()
    log.emit(agui.text_start("m"))
    for piece in "one", " two", " three":
        log.delta("TEXT_MESSAGE_CONTENT", "m", piece)
    log.delta("TOOL_CALL_ARGS", "c", "{}")
    batch = log.take(0)
    assert batch is not None
    assert [json.loads(event).get("delta") for event in batch.events] == [None, "one two three", "{}"]
    assert (batch.first, log.after(0)) == (2, [(1, b"{}")])
    log.confirm(batch)
    assert [seq for seq, _event in log.after(1)] == [2, 3, 4]


def test_what_the_database_lost_is_written_again_as_the_same_bytes() -> None:
    log = a_log()
    log.emit(agui.text_start("m"))
    first = log.take(0)
    log.emit(agui.text_end("m"))
    second = log.take(0)
    assert first is not None
    assert second is not None
    log.rewind(first.first - 1)
    again = log.take(0)
    assert again is not None
    assert (again.first, list(again.events)) == (2, [*first.events, *second.events])


def test_a_character_that_a_model_splits_over_two_pieces_arrives_whole() -> None:
    log = a_log()
    narrator = Narrator(log)
    narrator.tell(PartStartEvent(index=0, part=TextPart("a\ud83d")))
    log.take(0.0)
    narrator.tell(PartDeltaEvent(index=0, delta=TextPartDelta("\ude00b\ud83d")))
    log.take(1.0)
    narrator.tell(PartEndEvent(index=0, part=TextPart("")))
    log.take(2.0)

    events = [json.loads(frame) for frame in log._frames[1:]]
    assert "".join(event.get("delta", "") for event in events) == "a\N{GRINNING FACE}b\N{REPLACEMENT CHARACTER}"
