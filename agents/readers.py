"""Who reads a run here: from where on, and what they get where its log is gone. The run itself may live anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agents import admission
from agents.event_log import EventLog
from agents.live_runs import LiveRuns
from agents.tails import Tail
from agents.wakeups import Wakeups
from db import runs, threads, transcript
from db.aside import aside
from db.database import Database
from db.errors import AppError, missing_scope, not_found
from db.principal import Principal
from db.scopes import Scope

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run that was started, or that existed under this name: ``tail`` gives its events from the place that was asked
    for on. ``over``: that was the end of its log. ``thread`` and ``name``: the client's own names of both."""

    principal: Principal
    run_id: UUID
    project_id: UUID
    attached: bool
    on_disconnect: str
    tail: Tail
    thread: str
    name: str
    over: bool = False


class Readers:
    """One a process."""

    def __init__(self, database: Database, wakeups: Wakeups, live: LiveRuns) -> None:
        self._database = database
        self._wakeups = wakeups
        self._live = live

    @property
    def heard(self) -> int:
        """How often this process has heard that a credential may have ended. Whoever was known before that may be
        nobody any more."""
        return self._wakeups.heard

    def tail(self, principal: Principal, project_id: UUID, run_id: UUID, after: int = 0) -> Tail:
        """A run's events with a number over ``after``."""

        def local() -> EventLog | None:
            run = self._live.find(run_id)
            return run.log if run is not None else None

        return Tail(self._database, self._wakeups, local, principal, project_id, run_id, after)

    def reading(self) -> AbstractContextManager[None]:
        """Around the time in which somebody reads a tail: a process that ends waits for its readers."""
        return self._wakeups.reading()

    async def follow(
        self,
        principal: Principal,
        run_id: UUID,
        *,
        project_id: UUID | None = None,
        after: int = 0,
        entering: Callable[[UUID], Awaitable[None]] | None = None,
    ) -> RunHandle:
        """Read a run from behind its event ``after`` on. Leaving ends nothing. ``project_id``: as the request names it;
        ``entering`` hears which one it is, and may refuse by raising.

        Raises AppError ``run_not_found``, and ``events_gone`` (410) with a snapshot when its log has no such place.
        """
        project = await self.project_of(principal, run_id, project_id)
        if entering is not None:
            await entering(project)
        return await self.attach(principal, project, run_id, "continue", after)

    async def attach(
        self, principal: Principal, project_id: UUID, run_id: UUID, on_disconnect: str, after: int
    ) -> RunHandle:
        """As :meth:`follow`, for a caller whose project is known."""
        run, over = await self._at(principal, project_id, run_id, after)
        tail = self.tail(principal, project_id, run_id, after)
        names = run["thread"], run["external_id"]
        return RunHandle(principal, run_id, project_id, True, on_disconnect, tail, *names, over)

    async def project_of(self, principal: Principal, run_id: UUID, named: UUID | None = None) -> UUID:
        """The project that a run is in: the one the caller works in or names, else the one that the run is found in."""
        if not principal.may(Scope.runs_read):
            raise missing_scope(Scope.runs_read)
        project = admission.named_project(principal, named)
        project = project or await threads.project_of_run(self._database, principal, run_id)
        if project is None:
            raise no_such_run()
        return project

    async def snapshot(self, principal: Principal, project_id: UUID, run_id: UUID) -> dict[str, Any]:
        """Where a run stands. Raises AppError ``run_not_found``."""
        async with self._database.transaction(principal, project_id, read_only=True) as connection:
            return shown(await _found(connection, project_id, run_id))

    async def _at(
        self, principal: Principal, project_id: UUID, run_id: UUID, after: int
    ) -> tuple[asyncpg.Record, bool]:
        """The run, and whether nothing of it comes after event ``after``, now or later."""
        async with self._database.transaction(principal, project_id, read_only=True) as connection:
            run = await _found(connection, project_id, run_id)
            if run["compacted_at"] is None and after <= run["last_seq"]:
                return run, run["status"] not in runs.LIVE and after >= run["last_seq"]
            rows = await threads.messages(connection, project_id, run["thread_id"])
        snapshot: dict[str, Any] = {"run": shown(run), "messages": await aside(lambda: transcript.messages(rows))}
        raise AppError(
            "events_gone",
            410,
            f"There is nothing to read there: the log of this run {_whereabouts(run)}.",
            "Go on from 'snapshot': how the run ended, and the messages of its thread.",
            details={"snapshot": snapshot},
        )


def _whereabouts(run: asyncpg.Record) -> str:
    return f"ends at event {run['last_seq']}" if run["compacted_at"] is None else "was kept for 24 hours after its end"


async def _found(connection: Connection, project_id: UUID, run_id: UUID) -> asyncpg.Record:
    run = await threads.run(connection, project_id, run_id)
    if run is None:
        raise no_such_run()
    return run


def no_such_run() -> AppError:
    """For a run that is not there, or not the caller's to see."""
    return not_found("run", "Start one, or list threads to see what ran in them.", {"next_tool": "list_threads"})


def shown(run: asyncpg.Record) -> dict[str, Any]:
    """A run for its client, in AG-UI's words where it has some. ``run``: a row of :func:`db.threads.run`."""
    return {
        "id": str(run["id"]),
        "runId": run["external_id"],
        "threadId": run["thread"],
        "agent": run["agent"],
        "status": run["status"],
        "outcome": run["outcome"],
        "errorCode": run["error_code"],
        "lastEventId": run["last_seq"],
        "usage": {
            "model": run["model"],
            "requests": run["requests"],
            "toolCalls": run["tool_calls"],
            "inputTokens": run["input_tokens"],
            "outputTokens": run["output_tokens"],
            "costUsd": None if run["cost_usd"] is None else str(run["cost_usd"]),
        },
        "createdAt": run["created_at"].isoformat(),
        "startedAt": run["started_at"].isoformat() if run["started_at"] else None,
        "endedAt": run["ended_at"].isoformat() if run["ended_at"] else None,
    }
