"""Whose turn it is in a thread: what a run may answer to, and which of its client's tools it may still call."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import conversations
from db.errors import invalid
from db.principal import Principal
from server.v1.asked import Run

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

MOST_SINCE: Final = 200
"""Messages in which calls are counted."""


def check_owner(thread: asyncpg.Record, principal: Principal) -> None:
    """A project's own key sees the threads of all its end users, but talks in none of theirs. Raises AppError."""
    if thread["end_user_id"] != principal.end_user_id:
        raise invalid(
            "This thread is of an end user, and the request is of none.",
            "Send the userKey of the thread, or the end user's own token.",
            "user_key_required",
        )


def check_previous(thread: asyncpg.Record, given: str | None) -> None:
    """Whether a client has seen how the thread's last run ended. After one that failed or was cancelled, clients name
    that one, or the one before; while one goes on, that is what they are told. Raises AppError."""
    if thread["live_id"] is not None:
        return
    known = {str(found) for found in (thread["completed_id"], thread["ended_id"]) if found is not None}
    if given in known or (given is None and thread["completed_id"] is None):
        return
    raise invalid(
        "previousRunId is not the last run of this thread.",
        "Read the thread again: something was said in it meanwhile. Then send its lastCompletedRunId.",
        "previous_run_mismatch",
    )


async def within_limits(connection: Connection, project_id: UUID, thread_id: UUID, wanted: Run) -> Run:
    """The same run without the tools that were called as often as they may be since the user last said something."""
    tools = wanted.tools or []
    if not wanted.goes_on or all(tool.max_calls is None for tool in tools):
        return wanted
    rows = await conversations.messages(connection, project_id, thread_id, at=None, limit=MOST_SINCE, newest_first=True)
    called = _called(rows)
    left = [tool for tool in tools if tool.max_calls is None or called[tool.name] < tool.max_calls]
    return wanted.model_copy(update={"tools": left})


def _called(newest: list[asyncpg.Record]) -> Counter[str]:
    called: Counter[str] = Counter()
    for row in newest:
        parts = row["content"]["parts"]
        if any(part["part_kind"] == "user-prompt" for part in parts):
            break
        called.update(part["tool_name"] for part in parts if part["part_kind"] == "tool-call")
    return called
