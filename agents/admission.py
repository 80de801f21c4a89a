"""Which run a caller may start: in which project, with which rights, and what keeps it from being started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from db import runs
from db.agents import RunSettings
from db.errors import AppError, Details, conflict, invalid, not_found
from db.principal import Principal
from db.runs import MOST_WAITING, Begun, NewRun
from db.scopes import LENT_TO_END_USERS

if TYPE_CHECKING:
    from db.database import Connection

DEEPEST: Final = 3
ELSEWHERE: Final[Details] = {"ask": {"project": "any"}}


def granted(caller: Principal, settings: RunSettings, run_id: UUID, epoch: int) -> Principal:
    """What the run's tool calls act as: its caller's rights, as its agent lends them."""
    scopes = settings.scopes
    if scopes is None and caller.end_user_id is not None:
        scopes = LENT_TO_END_USERS
    return caller.for_run(run_id, depth=caller.run_depth + 1, epoch=epoch, scopes=scopes, tools=settings.tools)


def named_project(caller: Principal, named: UUID | None) -> UUID | None:
    """The key's own project, else the named one. None: the caller's first, which an account always starts with."""
    if caller.project_id is not None and named not in (None, caller.project_id):
        raise not_found("project", "This key is bound to another project; do not name one.", ELSEWHERE)
    return caller.project_id or named


async def first_project(connection: Connection) -> UUID:
    """The caller's first project, which the connection has entered. Raises AppError if there is none."""
    found = await runs.enter_first_project(connection)
    if found is None:
        raise invalid(
            "This key reaches no project.",
            "Create one with create_project, or use a key of an account that has one.",
            "project_required",
            {"next_tool": "create_project"},
        )
    return found


def check_depth(caller: Principal) -> None:
    """Runs start runs, but not without end. Raises AppError ``runs_too_deep``."""
    if caller.run_depth >= DEEPEST:
        raise conflict(
            "runs_too_deep",
            f"This run was started by a run that a run had started: {DEEPEST} is the most.",
            "Do the work in this run, without starting another one.",
        )


def busy(thread: str, hint: str, details: Details | None = None) -> AppError:
    """For a run that would not wait for the one that its thread has."""
    return AppError("thread_busy", 409, f"Thread '{thread}' has a run that is not done yet.", hint, True, 1, details)


def refuse(begun: Begun, new: NewRun) -> None:
    """Raise what keeps the run from being started, put in line, or attached to."""
    if begun.outcome == "too_many":
        raise AppError(
            "too_many_runs",
            429,
            "200 runs of this key go on or wait already.",
            "Wait until some of them have ended, or cancel some.",
            True,
            5,
        )
    if begun.outcome == "busy":
        raise busy(
            new.thread,
            "Wait for its terminal event, use another thread, or send forwardedProps.innkeeper.onBusy: 'enqueue' or"
            " 'interrupt'.",
        )
    if begun.outcome == "queue_full":
        raise AppError(
            "thread_queue_full",
            429,
            f"{MOST_WAITING} runs wait in thread '{new.thread}' already.",
            "Wait until some of them have ended, cancel some, or use another thread.",
            True,
            5,
        )
    if begun.outcome == "conflict":
        raise conflict(
            "run_id_conflict",
            f"Run '{new.external_id}' exists with another input.",
            "Use a new runId, or send exactly the same input to attach to that run.",
        )
