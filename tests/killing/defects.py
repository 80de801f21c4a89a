"""Faults that can be built into a house, to see that the rounds find them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from agents import house_tools
from agents.event_log import EventLog
from agents.journal import TOOL, Journal
from agents.narrator import Narrator
from db import runs
from tests.killing.points import lay


def no_record_of_tools() -> None:
    """What a tool returned is not in the journal."""
    step = EventLog.step

    def forget(log: EventLog, name: str, value: bytes) -> asyncio.Event:
        if not name.startswith(TOOL):
            return step(log, name, value)
        done = asyncio.Event()
        done.set()
        return done

    lay(EventLog, "step", forget)


def no_idempotency_key() -> None:
    """A call that is made again has another key."""
    lay(house_tools, "_idempotency_key", lambda *_of: str(uuid4()))


def results_are_told_again() -> None:
    """Who takes over does not look at what the log has of results already."""
    init: Any = Narrator.__init__

    def forget(narrator: Narrator, log: EventLog, *_told: Any) -> None:
        init(narrator, log)

    lay(Narrator, "__init__", forget)


def no_messages() -> None:
    """What a run leaves to its thread is lost."""
    finish: Any = runs.finish

    async def finish_with_nothing(*arguments: Any) -> Any:
        *others, ending = arguments
        object.__setattr__(ending, "messages", ())
        return await finish(*others, ending)

    lay(runs, "finish", finish_with_nothing)


def no_replay() -> None:
    """Who takes over begins with the first step."""
    init: Any = Journal.__init__

    def forget(journal: Journal, log: EventLog, _steps: Any) -> None:
        init(journal, log, {})

    lay(Journal, "__init__", forget)


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    "no record of tools": no_record_of_tools,
    "no idempotency key": no_idempotency_key,
    "results are told again": results_are_told_again,
    "no messages": no_messages,
    "no replay": no_replay,
}
