"""Runs that a tool starts and watches: begun in the tool's own transaction, taken by any process once it commits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias
from uuid import UUID

from agents import admission, agui
from agents.tails import Tail
from db import runs
from db.errors import Details, invalid
from db.ids import uuid7
from db.principal import Principal
from db.runs import NewRun

if TYPE_CHECKING:
    from db.database import Connection

TELL_SECONDS: Final = 0.5
_NO_LEASE: Final = timedelta(0)
_MAY_WAIT: Final[Details] = {
    "next_tool": "list_threads",
    "arguments": [{"do": "give", "at": "on_busy", "schema": {"enum": ["enqueue", "interrupt"]}}],
}

Progress: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]


class Errand(Protocol):
    """A run as a tool asks for it. ``message``: what the user says; ``thread``: the client's own name of the thread,
    which gets the id ``new_thread_id`` if there is none yet."""

    @property
    def agent(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def thread(self) -> str: ...

    @property
    def new_thread_id(self) -> UUID: ...

    @property
    def on_busy(self) -> Literal["reject", "enqueue", "interrupt"]: ...


async def begin(connection: Connection, principal: Principal, project_id: UUID, errand: Errand) -> tuple[UUID, UUID]:
    """The run's id and its thread's. Raises AppError for what keeps it from existing."""
    admission.check_depth(principal)
    if "\x00" in errand.message:
        raise invalid("The message holds the character U+0000, which cannot be stored.", "Leave it out.")
    run_id = uuid7()
    message = {"id": str(uuid7()), "role": "user", "content": errand.message}
    asked = json.dumps({"threadId": errand.thread, "runId": str(run_id), "messages": [message]})
    new = NewRun(
        caller=principal,
        project_id=project_id,
        thread_id=errand.new_thread_id,
        thread=errand.thread,
        id=run_id,
        external_id=str(run_id),
        agent=errand.agent,
        on_disconnect="continue",
        on_busy=errand.on_busy,
        input=asked,
        digest=hashlib.sha256(asked.encode()).digest(),
        owner=None,
        lease=_NO_LEASE,
        started_event=agui.encode(agui.run_started(errand.thread, str(run_id))),
    )
    begun = await runs.begin(connection, new)
    if begun.outcome == "busy":
        raise admission.busy(
            str(begun.thread_id),
            "Wait for its end with get_run (list_threads shows its id), leave thread_id out, or give on_busy: 'enqueue'"
            " or 'interrupt'.",
            _MAY_WAIT,
        )
    admission.refuse(begun, new)
    return run_id, begun.thread_id


async def watch(tail: Tail, seconds: float, progress: Progress | None) -> str:
    """Read on until the run is over, for ``seconds`` at most; ``progress`` hears what it does. Gives the text that its
    agent has said."""
    clock = asyncio.get_running_loop().time
    until, tell_at = clock() + seconds, 0.0
    heard = _Heard()
    while not tail.over:
        found = await tail.next(min(max(until - clock(), 0.0), 15.0))
        for number, event in found:
            heard.hear(number, json.loads(event))
        if progress is not None and clock() >= tell_at and found:
            tell_at = clock() + TELL_SECONDS
            await progress(heard.number, None, heard.doing)
        if clock() >= until:
            break
    return heard.text


class _Heard:
    """What a run's events come to, for somebody who only wants to know what was said."""

    def __init__(self) -> None:
        self.number = 0
        self.doing = "started"
        self._texts: dict[str, str] = {}

    @property
    def text(self) -> str:
        return "\n\n".join(text for text in self._texts.values() if text)

    def hear(self, number: int, event: dict[str, Any]) -> None:
        self.number = number
        match event["type"]:
            case "TEXT_MESSAGE_CONTENT":
                self.doing = "says something"
                self._texts[event["messageId"]] = self._texts.get(event["messageId"], "") + event["delta"]
            case "TOOL_CALL_START":
                self.doing = f"calls {event['toolCallName']}"
            case "CUSTOM" if event["name"] == agui.SUPERSEDED:
                for message_id in event["value"]["messageIds"]:
                    self._texts.pop(message_id, None)
            case "RUN_FINISHED" | "RUN_ERROR":
                self.doing = "has ended"
