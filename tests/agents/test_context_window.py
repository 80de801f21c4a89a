from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agents.context_window import CHARACTERS_PER_TOKEN, within

pytestmark = pytest.mark.promise("RUN-09")
TURNS = st.lists(
    st.fixed_dictionaries(
        {
            "said": st.integers(1, 300),
            "rounds": st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=3), max_size=3),
            # The client answers calls of its own and says something in one message.
            "at_once": st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)


def conversation(turns: list[dict[str, Any]]) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    open_results: list[ToolReturnPart] = []
    count = 0
    for turn in turns:
        messages.append(ModelRequest(parts=[*open_results, UserPromptPart("u" * turn["said"])]))
        open_results = []
        for number, results in enumerate(rounds := turn["rounds"]):
            calls = [ToolCallPart("tool", {}, f"call {count + each}") for each in range(len(results))]
            returns = [
                ToolReturnPart("tool", "r" * size, call.tool_call_id) for size, call in zip(results, calls, strict=True)
            ]
            count += len(results)
            messages.append(ModelResponse(parts=calls))
            if number == len(rounds) - 1 and turn["at_once"]:
                open_results = returns
            else:
                messages.append(ModelRequest(parts=returns))
        if not open_results:
            messages.append(ModelResponse(parts=[TextPart("done")]))
    messages.append(ModelRequest(parts=[*open_results, UserPromptPart("the last word")]))
    return messages


def size(messages: list[ModelMessage]) -> int:
    return sum(len(ModelMessagesTypeAdapter.dump_json([message])) for message in messages)


@settings(max_examples=150, deadline=None)
@given(turns=TURNS, tokens=st.integers(1, 3000))
def test_what_a_model_gets_is_the_newest_whole_and_as_much_as_fits(turns: list[dict[str, Any]], tokens: int) -> None:
    messages = conversation(turns)
    kept = within(messages, tokens)
    assert kept == messages[len(messages) - len(kept) :]
    assert kept[-1] is messages[-1]
    parts = [part for message in kept for part in message.parts]
    calls = {part.tool_call_id for part in parts if isinstance(part, ToolCallPart)}
    results = {part.tool_call_id for part in parts if isinstance(part, ToolReturnPart)}
    assert results == calls
    assert isinstance(kept[0].parts[0], UserPromptPart)
    room = tokens * CHARACTERS_PER_TOKEN
    begins = [index for index, message in enumerate(messages) if isinstance(message.parts[0], UserPromptPart)]
    fits = [index for index in begins if size(messages[index:]) <= room]
    assert len(messages) - len(kept) == min(fits, default=max(begins))


def test_without_a_limit_nothing_is_cut() -> None:
    messages = conversation([{"said": 10_000, "rounds": [], "at_once": False}] * 3)
    assert within(messages, None) == messages
