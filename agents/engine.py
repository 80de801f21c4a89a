"""The run engine: starts runs, keeps them, shows them, ends them. Importing it imports nothing of pydantic-ai."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from agents import agui
from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.leases import LEASE, Leases
from agents.live_run import LiveRun
from agents.models import ModelFactory
from agents.quiet import quietly
from agents.tails import Tail, Wakeups
from db import events, runs
from db.agents import DEFAULT as DEFAULT_AGENT
from db.database import Database
from db.errors import AppError, Details, conflict, invalid, missing_scope, not_found
from db.ids import uuid7
from db.principal import Principal
from db.runs import Begun, NewRun
from db.scopes import LENT_TO_END_USERS, Scope

if TYPE_CHECKING:
    from agents.attachments import Fetch
    from agents.history import Turn
    from agents.house_mcp import MCPApp
    from agents.kit import Kit
    from agents.run_input import RunInput

ELSEWHERE: Final[Details] = {"ask": {"project": "any"}}
LAST_WORDS_SECONDS: Final = 5.0
_log = logging.getLogger("innkeeper.agents")


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run that was started, or that existed under this name: ``tail`` gives all its events from the first on."""

    principal: Principal
    run_id: UUID
    project_id: UUID
    attached: bool
    on_disconnect: str
    tail: Tail


class RunEngine:
    """One a process. ``start()`` at start-up, ``warm()`` after ready, ``shutdown()`` before the database closes.

    ``mcp_app`` is the ASGI application behind ``/mcp``, ``fetch`` reads what download tickets lead to; both may be
    given later, before the first run, with ``use``.
    """

    def __init__(
        self,
        database: Database,
        models: ModelFactory,
        process_id: UUID | None = None,
        mcp_app: MCPApp | None = None,
        *,
        fetch: Fetch | None = None,
    ) -> None:
        self._database = database
        self._models = models
        self._owner = process_id or uuid7()
        self._mcp_app = mcp_app
        self._fetch = fetch
        self._live: dict[UUID, LiveRun] = {}
        self._ended_as: Counter[str] = Counter()
        self._writer = EventWriter(database, self._owner)
        self._leases = Leases(database, self._owner, lambda: self._live)
        self._wakeups = Wakeups()
        self._loading: asyncio.Task[Kit] | None = None
        self._closing = False

    def use(self, mcp_app: MCPApp, fetch: Fetch | None = None) -> None:
        """The application that runs' tool calls go to, and what reads their attachments from the store."""
        self._mcp_app = mcp_app
        self._fetch = fetch

    async def open(self) -> None:
        """Begin to write, to keep leases and to hear of other processes' runs; ends runs that a dead process left."""
        listener = self._database.listener
        await listener.listen(events.CHANNEL, self._wakeups.told)
        await listener.listen(runs.CANCEL_CHANNEL, self._told_to_cancel)
        self._writer.start()
        await self._leases.start()

    async def warm(self) -> None:
        """Import what runs need, off the event loop. A run that comes earlier waits for it."""
        await self._kit()

    async def start(
        self,
        principal: Principal,
        body: bytes,
        *,
        project_id: UUID | None = None,
        agent: str = DEFAULT_AGENT,
        entering: Callable[[UUID], Awaitable[None]] | None = None,
    ) -> RunHandle:
        """Start the run that ``body`` (an AG-UI RunAgentInput) asks for, or attach to the one of that run id.

        ``project_id``: the project the request names, if it does. ``entering`` hears which one it is before anything is
        written, and may refuse by raising. Raises AppError for everything that keeps the run
        from existing; whatever happens later is told by its events.
        """
        if not principal.may(Scope.runs_write):
            raise missing_scope(Scope.runs_write)
        kit = await self._kit()
        asked = kit.parse(body)
        if self._closing:
            raise AppError("shutting_down", 503, "This server is shutting down.", "Send it again.", True, 1)
        named = _named_project(principal, project_id or asked.project)
        async with self._database.transaction(principal, named) as connection:
            project = named or await runs.enter_first_project(connection)
            if project is None:
                raise _no_project()
            if entering is not None:
                await entering(project)
            new = self._new_run(principal, project, agent, asked)
            begun = await runs.begin(connection, new)
            turn = None
            _refuse(begun, asked)
            if begun.outcome == "started":
                turn = kit.next_turn(begun.history, asked, begun.settings.max_input_tokens)
                if turn.said is not None:
                    stored = kit.to_store([turn.said])
                    await runs.add_messages(connection, new, begun.thread_id, stored)
        if turn is not None:
            self._begin(kit, principal, new, begun, asked, turn)
        return self._handle(principal, project, begun, attached=turn is None)

    def when_ended(self, run_id: UUID, call: Callable[[], None]) -> bool:
        """Have ``call`` called at the end of a run of this process; False when it has none of this id."""
        run = self._live.get(run_id)
        if run is not None:
            run.done.add_done_callback(lambda _done: call())
        return run is not None

    async def cancel(self, principal: Principal, project_id: UUID, run_id: UUID) -> bool:
        """Ask for the end of a run, wherever it lives; False when the caller has no such live run."""
        async with self._database.transaction(principal, project_id) as connection:
            asked = await runs.request_cancel(connection, project_id, run_id)
        run = self._live.get(run_id)
        if asked and run is not None:
            run.stop("asked")
        return asked

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """Ask for the end of every live run of a project, on every process. The caller has checked who asks."""
        for run in list(self._live.values()):
            if run.plan.project_id == project_id and run.plan.run_id != principal.run_id:
                run.stop("asked")
        async with self._database.ops() as connection:
            await runs.cancel_project(connection, project_id)

    async def hung_up(self, handle: RunHandle) -> None:
        """A reader's connection broke. Ends the run, wherever it lives, if its input says so."""
        if handle.on_disconnect != "cancel" or handle.tail.ended:
            return
        run = self._live.get(handle.run_id)
        if run is not None:
            run.stop("asked")
        else:
            await self.cancel(handle.principal, handle.project_id, handle.run_id)

    @property
    def live(self) -> int:
        """How many runs this process holds."""
        return len(self._live)

    def states(self) -> dict[str, int]:
        """How many runs are live in this process, and how many ended in each state since it started."""
        return {"live": len(self._live), **self._ended_as}

    async def shutdown(self, grace: float) -> None:
        """Take no more runs, let those that live end for ``grace`` seconds, end the others, stop."""
        self._closing = True
        if self._live:
            await asyncio.wait([run.done for run in self._live.values()], timeout=grace)
        for run in list(self._live.values()):
            run.stop("shutdown")
        if self._live:
            await asyncio.wait([run.done for run in self._live.values()], timeout=LAST_WORDS_SECONDS)
        await self._leases.stop()
        await self._writer.stop()
        if self._loading is not None:
            with contextlib.suppress(Exception):
                await self._loading

    def _told_to_cancel(self, payload: str) -> None:
        run = self._live.get(UUID(payload))
        if run is not None:
            run.stop("asked")

    async def _kit(self) -> Kit:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(self._prepare(), name="import-agents")
        # Shielded: the first run that waits here may be cancelled, the import is everybody's.
        return await asyncio.shield(self._loading)

    async def _prepare(self) -> Kit:
        with quietly():
            # One after the other: two threads that import pydantic-ai at once find each other's half-made modules.
            await self._models.warm()
            return await asyncio.to_thread(self._load)

    def _load(self) -> Kit:
        from agents import kit

        if self._mcp_app is None:
            raise RuntimeError("the engine was given no MCP application")
        return kit.load(self._models, self._mcp_app, self._fetch or _no_files)

    def _new_run(self, principal: Principal, project: UUID, agent: str, asked: RunInput) -> NewRun:
        return NewRun(
            project_id=project,
            end_user_id=principal.end_user_id,
            thread_id=uuid7(),
            thread=asked.thread_id,
            id=uuid7(),
            external_id=asked.run_id,
            credential_id=principal.credential_id,
            user_id=principal.user_id,
            scopes=sorted(principal.scopes),
            agent=agent,
            on_disconnect=asked.on_disconnect,
            input=asked.text,
            digest=asked.digest_for(agent),
            owner=self._owner,
            lease=LEASE,
            started_event=agui.encode(agui.run_started(asked.thread_id, asked.run_id)),
        )

    def _begin(
        self,
        kit: Kit,
        principal: Principal,
        new: NewRun,
        begun: Begun,
        asked: RunInput,
        turn: Turn,
    ) -> None:
        from agents.conversation import Plan

        settings = begun.settings
        scopes = LENT_TO_END_USERS if principal.end_user_id and settings.scopes is None else settings.scopes
        grant = principal.for_run(new.id, depth=principal.run_depth + 1, epoch=1, scopes=scopes, tools=settings.tools)
        plan = Plan(new.id, begun.thread_id, new.project_id, new.agent, grant, settings, asked, turn)
        log = EventLog(new.project_id, new.id, grant.run_epoch, new.started_event, self._writer.touch)
        run = LiveRun(plan, kit.conversation(plan, log), log, self._writer)
        self._live[new.id] = run
        run.done.add_done_callback(lambda done: self._ended(new.id, done))

    def _ended(self, run_id: UUID, done: asyncio.Task[None]) -> None:
        run = self._live.pop(run_id, None)
        if run is not None and run.status is not None:
            self._ended_as[run.status] += 1
        if not done.cancelled() and done.exception() is not None:
            _log.error("a run's end failed", exc_info=done.exception(), extra={"run": str(run_id)})

    def _handle(self, principal: Principal, project: UUID, begun: Begun, *, attached: bool) -> RunHandle:
        run_id = begun.run_id

        def local() -> EventLog | None:
            run = self._live.get(run_id)
            return run.log if run is not None else None

        tail = Tail(self._database, self._wakeups, local, principal, project, run_id)
        return RunHandle(principal, run_id, project, attached, begun.on_disconnect, tail)


def _refuse(begun: Begun, asked: RunInput) -> None:
    """Raise what keeps the run from being started or attached to."""
    if begun.outcome == "busy":
        raise AppError(
            "thread_busy",
            409,
            f"Thread '{asked.thread_id}' has a run that is not done yet.",
            "Wait for its terminal event, or use another thread.",
            True,
            1,
        )
    if begun.outcome == "conflict":
        raise conflict(
            "run_id_conflict",
            f"Run '{asked.run_id}' exists with another input.",
            "Use a new runId, or send exactly the same input to attach to that run.",
        )


def _named_project(principal: Principal, named: UUID | None) -> UUID | None:
    """The key's own project, else the named one. None: the caller's first, which an account always starts with."""
    if principal.project_id is not None and named not in (None, principal.project_id):
        raise not_found("project", "This key is bound to another project; do not name one.", ELSEWHERE)
    return principal.project_id or named


async def _no_files(url: str, most: int) -> bytes:
    raise AppError("storage_not_configured", 503, "Runs have no place for files.", "Ask who runs this house for one.")


def _no_project() -> AppError:
    return invalid(
        "This key reaches no project.",
        "Create one with create_project, or use a key of an account that has one.",
        "project_required",
        {"next_tool": "create_project"},
    )
