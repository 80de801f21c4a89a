"""The calls that a thread's last answer left open: results its client owes, and calls that wait for a person.

Which call waits for which record is part of the stored answer (``metadata.innkeeper.interrupts``), so that no client
can give the result of a call that nobody allowed. So is which of the house's own calls its run was cut off in
(``metadata.innkeeper.cut_off``): nobody gives results of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from ag_ui.core import ToolMessage
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequestPart,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agents.interrupts import PASSED_OVER, Answered, Resume
from db.errors import AppError, invalid
from db.transcript import OURS

INTERRUPTS = "interrupts"
CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True)
class OpenCalls:
    """``owed``: calls of the client's tools, by id. ``asked``: calls that wait for a person, with their records.
    ``answered``: the ids of all calls of the thread that have a result, or that nobody will give one. ``due``: the run
    paused for what is owed; one that was cut off takes what there is of it."""

    owed: Mapping[str, ToolCallPart]
    asked: Mapping[str, tuple[ToolCallPart, UUID]]
    answered: Set[str]
    due: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """``parts`` with the ``ids`` of the messages they come from (``None``: ours) go to the thread. ``decisions``: what
    becomes of each call that waited for a person, made (``None``) or denied with these words, and ``answered``: what is
    to be recorded of it."""

    parts: list[ModelRequestPart] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    decisions: dict[str, str | None] = field(default_factory=dict)
    answered: list[Answered] = field(default_factory=list)


def left_open(history: Sequence[ModelMessage]) -> OpenCalls:
    """Calls of the last answer that nothing has answered yet, and the ids of all that were."""
    waiting: dict[str, ToolCallPart] = {}
    ours: Mapping[str, Any] = {}
    answered: set[str] = set()
    for message in history:
        if isinstance(message, ModelResponse):
            waiting = {call.tool_call_id: call for call in message.tool_calls}
            ours = (message.metadata or {}).get(OURS, {})
            continue
        if any(isinstance(part, UserPromptPart) for part in message.parts):
            waiting.clear()
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                waiting.pop(part.tool_call_id, None)
                answered.add(part.tool_call_id)
    records, lost = ours.get(INTERRUPTS, {}), ours.get(CUT_OFF, ())
    asked = {call_id: (call, UUID(records[call_id])) for call_id, call in waiting.items() if call_id in records}
    owed = {call_id: call for call_id, call in waiting.items() if call_id not in records and call_id not in lost}
    return OpenCalls(owed, asked, answered.union(lost), CUT_OFF not in ours)


def cut_off(said: Sequence[ModelMessage], theirs: Set[str]) -> list[str] | None:
    """Of the calls that a run leaves without a result when it is cut off, the ids of those that are not of its client's
    tools, whose names are ``theirs``; ``None`` when it leaves none."""
    left = left_open(said).owed
    return [call_id for call_id, call in left.items() if call.tool_name not in theirs] if left else None


def answers(calls: OpenCalls, results: Sequence[ToolMessage], resume: Sequence[Resume], *, speaks: bool) -> Answers:
    """``speaks``: the client says something new. Raises AppError unless all that is open is answered, or passed over by
    a new message."""
    found = Answers()
    given = _take_results(calls, results, found)
    if resume:
        _decide(calls, resume, found)
    missing = calls.owed.keys() - given if calls.due else set()
    if missing and (given or resume or not (speaks or calls.asked)):
        raise _missing(missing)
    if resume:
        if speaks:
            raise invalid(
                "There is a new user message beside 'resume'.",
                "Resume first; or send the message alone, which denies what is open.",
                "resume_with_message",
            )
    elif calls.asked and speaks:
        _pass_over(calls, found)
    elif calls.asked:
        waiting = ", ".join(sorted({str(record) for _call, record in calls.asked.values()}))
        raise invalid(
            f"The last run waits for a person: {waiting}.",
            "Answer each with an entry in 'resume', or send a new user message, which denies them.",
            "interrupts_unanswered",
        )
    return found


def _take_results(calls: OpenCalls, results: Sequence[ToolMessage], found: Answers) -> Set[str]:
    """What the client's tools returned, and the ids of its calls, which all waited for that."""
    given: set[str] = set()
    for message in results:
        call_id = message.tool_call_id
        if call_id in given:
            raise invalid(f"There are two results of call '{call_id}'.", "Send one.", "tool_result_duplicate")
        if call_id in calls.owed:
            given.add(call_id)
            found.parts.append(_tool_return(message, calls.owed[call_id]))
            found.ids.append(message.id)
        elif call_id not in calls.answered:
            raise invalid(
                f"No call '{call_id}' waits for a result in this thread.",
                "Send results of the calls in 'pendingToolCallIds' of the last RUN_FINISHED only.",
                "tool_result_unexpected",
            )
    return given


def _missing(calls: Set[str]) -> AppError:
    return invalid(
        f"Tool calls of the last answer are still open: {', '.join(sorted(calls))}.",
        "Send a tool message with an id of its own for each of them, or only a user message to go on without any.",
        "tool_results_missing",
    )


def _decide(calls: OpenCalls, resume: Sequence[Resume], found: Answers) -> None:
    given = {answer.interrupt_id: answer for answer in resume}
    waiting = {str(record) for _call, record in calls.asked.values()}
    unknown = given.keys() - waiting
    if unknown:
        raise invalid(
            f"No interrupt '{min(unknown)}' is open in this thread.",
            "Answer the interrupts of its last RUN_FINISHED, with their ids.",
            "interrupt_not_found",
        )
    if waiting - given.keys():
        raise invalid(
            f"These interrupts are still open: {', '.join(sorted(waiting - given.keys()))}.",
            "Answer all of them in one 'resume'.",
            "interrupts_unanswered",
        )
    for call_id, (_call, record) in calls.asked.items():
        found.decisions[call_id] = given[str(record)].denial
    found.answered.extend(Answered(UUID(name), answer.approve) for name, answer in given.items())


def _pass_over(calls: OpenCalls, found: Answers) -> None:
    for call_id, (call, _record) in calls.asked.items():
        found.parts.append(ToolReturnPart(call.tool_name, PASSED_OVER, call_id, outcome="denied"))
        found.ids.append(None)
    records = {record for _call, record in calls.asked.values()}
    found.answered.extend(Answered(record, False, meant=False) for record in records)


def _tool_return(message: ToolMessage, call: ToolCallPart) -> ToolReturnPart:
    content: Any = message.content
    if not isinstance(content, str):
        content = "\n".join(_text_of(part) for part in content)
    given = ToolReturnPart(call.tool_name, content, call.tool_call_id)
    if message.error:
        given = replace(given, content=f"{content}\n{message.error}".strip(), outcome="failed")
    if given.content != message.content:
        given.metadata = {OURS: message.model_dump(mode="json", include={"content", "error"}, exclude_none=True)}
    return given


def _text_of(part: Any) -> str:
    if part.type != "text":
        raise invalid("A tool result here may hold text only.", "Describe the result in text.", "content_not_supported")
    return str(part.text)
