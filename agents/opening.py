"""What a run tells before its agent says anything: the state its thread keeps, and the messages its client lacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import threads, transcript
from db.aside import aside

if TYPE_CHECKING:
    from agents.history import Turn
    from agents.run_input import RunInput
    from db.database import Connection

LARGEST: Final = 1 << 20
"""Bytes of messages that are told unasked."""


@dataclass(frozen=True, slots=True)
class Opening:
    """``None``: nothing is told of it. ``anew``: the client is to let go of its messages before it gets these."""

    state: Any = None
    messages: Sequence[dict[str, Any]] | None = None
    anew: bool = False


NOTHING: Final = Opening()


async def opening(
    connection: Connection, project_id: UUID, thread_id: UUID, asked: RunInput, turn: Turn, *, taken_over: bool = False
) -> Opening:
    """Within the transaction in which the run begins or goes on: the client's state is kept, if it has one. A run that
    is taken over has told its messages."""
    state = await _state(connection, project_id, thread_id, asked, taken_over)
    if taken_over or not _wanted(asked, turn):
        return Opening(state)
    rows = await threads.messages(connection, project_id, thread_id)
    # The run tells of these itself.
    denied = {part.tool_call_id for part in turn.denied}

    def told() -> Opening:
        kept = transcript.messages(rows)
        messages = [one for one in kept if one["role"] != "tool" or one["toolCallId"] not in denied]
        if asked.messages_snapshot != "always" and len(json.dumps(messages)) > LARGEST:
            return Opening(state)
        return Opening(state, messages, anew=_in_disorder(messages, asked))

    return await aside(told)


def _in_disorder(messages: Sequence[dict[str, Any]], asked: RunInput) -> bool:
    """Whether a client would come to another order: what it has stays in its place, and the rest comes behind, as
    @ag-ui/client 1.0 does it."""
    order = [message["id"] for message in messages]
    known = set(order)
    stays = [message.id for message in asked.messages if message.id in known]
    return order[: len(stays)] != stays


def _wanted(asked: RunInput, turn: Turn) -> bool:
    """Results of an earlier run's calls are told behind these calls: a stream is whole by itself."""
    if asked.messages_snapshot == "differing":
        return turn.differs or bool(turn.decisions or turn.denied)
    return asked.messages_snapshot == "always"


async def _state(connection: Connection, project_id: UUID, thread_id: UUID, asked: RunInput, taken_over: bool) -> Any:
    """Clients that know of no state send an empty one: that takes nothing away."""
    if asked.state is None:
        return None
    if asked.state == {} or taken_over:
        kept, _set_by = await threads.state(connection, project_id, thread_id)
        return kept
    await threads.keep_state(connection, project_id, thread_id, asked.state, None)
    return asked.state
