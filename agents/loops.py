"""Finds out that a model goes round in circles: three answers in a row ask for the very same calls.

Answers count from what the user said last, over runs too; equal calls within one answer are one. A tool that only reads
may be asked again as long as it answers something new: that is waiting, and no loop.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart, UserPromptPart

from agents.house_tools import STRUCTURED
from db.errors import AppError

IN_A_ROW: Final = 3
Call: TypeAlias = tuple[str, str]
"""The name of a tool and its arguments, as JSON with sorted keys."""


def check(messages: Sequence[ModelMessage], answer: ModelResponse, readers: Collection[str]) -> None:
    """Raises AppError ``run_loop_detected`` when ``answer``, the next after ``messages``, closes the circle.
    ``readers``: the names of tools that only read."""
    rounds, results = _since_the_user(messages)
    asked = _calls(answer)
    if not asked or len(rounds) < IN_A_ROW - 1 or any(set(calls.values()) != asked for calls in rounds[1 - IN_A_ROW :]):
        return
    if all(name in readers for name, _arguments in asked) and any(_is_new(results.get(call, ())) for call in asked):
        return
    names = ", ".join(sorted({name for name, _arguments in asked}))
    raise AppError(
        "run_loop_detected",
        422,
        f"The model asked for the same call of {names} {IN_A_ROW} times in a row; the last one was not made.",
        "Say what is missing in another way, or give the agent instructions for this case.",
    )


def _is_new(results: Sequence[str]) -> bool:
    """Whether the last answer differs from the one before."""
    return len(results) > 1 and results[-1] != results[-2]


def _since_the_user(messages: Sequence[ModelMessage]) -> tuple[list[dict[str, Call]], dict[Call, list[str]]]:
    """The calls of each answer that made some, by their ids, and what each call came to, in turn."""
    rounds: list[dict[str, Call]] = []
    results: dict[Call, list[str]] = {}
    for message in messages:
        if isinstance(message, ModelResponse):
            made = {part.tool_call_id: _call(part) for part in message.parts if isinstance(part, ToolCallPart)}
            rounds += [made] if made else []
        elif any(isinstance(part, UserPromptPart) for part in message.parts):
            rounds, results = [], {}
        else:
            _note(message, rounds[-1] if rounds else {}, results)
    return rounds, results


def _note(message: ModelRequest, made: dict[str, Call], results: dict[Call, list[str]]) -> None:
    for part in message.parts:
        if isinstance(part, ToolReturnPart) and part.tool_call_id in made:
            results.setdefault(made[part.tool_call_id], []).append(_result(part))


def _result(part: ToolReturnPart) -> str:
    # Text of others stands between marks that are new in each result.
    data = part.metadata.get(STRUCTURED) if isinstance(part.metadata, dict) else None
    return part.model_response_str() if data is None else json.dumps(data, sort_keys=True, default=str)


def _calls(answer: ModelResponse) -> set[Call]:
    return {_call(part) for part in answer.parts if isinstance(part, ToolCallPart)}


def _call(part: ToolCallPart) -> Call:
    arguments = part.args or {}
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        value = arguments
    return part.tool_name, json.dumps(value, sort_keys=True, default=str)
