"""The run engine: starts runs, keeps them, shows them, ends them. Importing it imports nothing of pydantic-ai."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from agents import admission, agui, beginning, errands
from agents.beginning import FIRST_EPOCH, Beginning
from agents.errands import Errand, Progress
from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.interrupts import Consent, Unasked
from agents.leases import LEASE, Leases
from agents.ledger import Ledger
from agents.live_runs import LiveRuns
from agents.models import ModelFactory
from agents.quiet import quietly
from agents.readers import Readers, RunHandle
from agents.succession import Succession
from agents.wakeups import Wakeups
from db import credentials, events, runs
from db.agents import DEFAULT as DEFAULT_AGENT
from db.database import Database
from db.errors import AppError, missing_scope
from db.ids import uuid7
from db.principal import Principal
from db.run_leases import Claim
from db.runs import NewRun, StoredMessage
from db.scopes import Scope

if TYPE_CHECKING:
    from agents.attachments import Fetch
    from agents.house_mcp import MCPApp
    from agents.kit import Kit
    from agents.run_input import RunInput
    from db.database import Connection


LAST_WORDS_SECONDS: Final = 5.0


class RunEngine:
    """One a process. ``open()`` at start-up, ``warm()`` after ready, ``shutdown()`` before the database closes.

    ``mcp_app`` is the ASGI application behind ``/mcp``, ``fetch`` reads what download tickets lead to, ``consent`` has
    what waits for a person; they may be given later, before the first run, with ``use`` and ``ask``.
    """

    def __init__(
        self,
        database: Database,
        models: ModelFactory,
        process_id: UUID | None = None,
        mcp_app: MCPApp | None = None,
        *,
        fetch: Fetch | None = None,
        consent: Consent | None = None,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = database
        self._models = models
        self._owner = process_id or uuid7()
        self._mcp_app = mcp_app
        self._fetch = fetch
        self._consent: Consent = consent or Unasked()
        self._writer = EventWriter(database, self._owner)
        self._live = LiveRuns(self._writer)
        self._succession = Succession(database, self._owner, self._live, self._writer, self._kit)
        self._leases = Leases(database, self._owner, self._live, self._take, self._writer.alone, lease)
        self._wakeups = Wakeups()
        self.readers = Readers(database, self._wakeups, self._live)
        self._loading: asyncio.Task[Kit] | None = None
        self._taking: set[asyncio.Task[None]] = set()
        self._closing = False

    def use(self, mcp_app: MCPApp, fetch: Fetch | None = None) -> None:
        """The application that runs' tool calls go to, and what reads their attachments from the store."""
        self._mcp_app = mcp_app
        self._fetch = fetch

    def ask(self, consent: Consent) -> None:
        """The records of calls that wait for a person."""
        self._consent = consent

    async def open(self) -> None:
        """Begin to write, to keep leases, to hear of other processes' runs, and to take what nobody holds."""
        listener = self._database.listener
        await listener.listen(events.CHANNEL, self._wakeups.told)
        listener.on_reconnect(self._wakeups.missed)
        await listener.listen(credentials.CHANNEL, self._wakeups.revoked)
        listener.on_reconnect(self._wakeups.any_revoked)
        await listener.listen(runs.CANCEL_CHANNEL, lambda payload: self._live.cancel(UUID(payload)))
        await listener.listen(runs.WAITING_CHANNEL, lambda _payload: self._leases.look())
        await listener.listen(runs.CLAIMED_CHANNEL, self._told_of_a_claim)
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
        after: int = 0,
        entering: Callable[[UUID], Awaitable[None]] | None = None,
        beforehand: Callable[[Connection, UUID], Awaitable[None]] | None = None,
    ) -> RunHandle:
        """Start the run that ``body`` (an AG-UI RunAgentInput) asks for, or attach to the one of that run id, behind
        its event ``after``.

        ``project_id``: the project the request names, if it does. ``entering`` hears which one it is before anything is
        written, and may refuse by raising; so may ``beforehand``, within the transaction in which the run begins, with
        what it writes there. Raises AppError for everything that keeps the run from existing; whatever happens later is
        told by its events.
        """
        if not principal.may(Scope.runs_write):
            raise missing_scope(Scope.runs_write)
        admission.check_depth(principal)
        kit = await self._kit()
        asked = await kit.parse(body)
        if self._closing:
            raise AppError("shutting_down", 503, "This server is shutting down.", "Send it again.", True, 1)
        named = admission.named_project(principal, project_id or asked.project)
        async with self._database.transaction(principal, named) as connection:
            project = named or await admission.first_project(connection)
            if entering is not None:
                await entering(project)
            if beforehand is not None:
                await beforehand(connection, project)
            made = await beginning.begin(kit, connection, self._new_run(principal, project, agent, asked), asked)
        self._launch(kit, made)
        begun = made.begun
        if begun.outcome == "attached":
            return await self.readers.attach(principal, project, begun.run_id, begun.on_disconnect, after)
        tail = self.readers.tail(principal, project, begun.run_id)
        names = asked.thread_id, asked.run_id
        return RunHandle(principal, begun.run_id, project, False, begun.on_disconnect, tail, *names)

    async def begin(
        self, connection: Connection, principal: Principal, project_id: UUID, errand: Errand
    ) -> tuple[UUID, UUID]:
        """Begin a run within a transaction of the caller, and give its id and its thread's. It lives as soon as that
        has committed: here, or in whatever process takes it. Raises AppError for what keeps it from existing."""
        return await errands.begin(connection, principal, project_id, errand)

    async def watch(
        self, principal: Principal, project_id: UUID, run_id: UUID, seconds: float, progress: Progress | None = None
    ) -> str:
        """Wait for the end of a run, for ``seconds`` at most; the text that its agent has said so far."""
        return await errands.watch(self.readers.tail(principal, project_id, run_id), seconds, progress)

    def when_ended(self, run_id: UUID, call: Callable[[], None]) -> bool:
        """Have ``call`` called at the end of a run of this process; False when it has none of this id."""
        run = self._live.find(run_id)
        if run is not None:
            run.done.add_done_callback(lambda _done: call())
        return run is not None

    async def cancel(self, principal: Principal, project_id: UUID, run_id: UUID) -> bool:
        """Ask for the end of a run, wherever it lives, which its terminal event will tell; False when the caller has no
        such live run."""
        async with self._database.transaction(principal, project_id) as connection:
            asked = await runs.request_cancel(connection, project_id, run_id)
        if asked:
            self._live.cancel(run_id)
        return asked

    async def cancel_project(self, principal: Principal, project_id: UUID) -> None:
        """Ask for the end of every live run of a project, on every process. The caller has checked who asks."""
        if principal.run_id is None:
            for run in self._live:
                if run.plan.project_id == project_id:
                    run.stop("asked")
            async with self._database.ops() as connection:
                await runs.cancel_project(connection, project_id)
        else:
            async with self._database.transaction(principal, project_id) as connection:
                await runs.cancel_others(connection, project_id, principal.run_id)

    async def change_state(
        self, principal: Principal, project_id: UUID | None, thread: str, component_id: UUID, body: bytes
    ) -> dict[str, Any]:
        """The new state of a component that an agent has shown, as ``body`` asks for it. Raises AppError."""
        kit = await self._kit()
        project = admission.named_project(principal, project_id)
        if project is None:
            async with self._database.transaction(principal, None, read_only=True) as connection:
                project = await admission.first_project(connection)
        return await kit.change_state(principal, project, thread, component_id, body)

    async def told_before(self, messages: Sequence[Mapping[str, Any]], about: Sequence[Any]) -> list[StoredMessage]:
        """What was said in a thread before its first run, as :mod:`agents.initial_messages` has it, to be stored."""
        return await (await self._kit()).told_before(messages, about)

    async def hung_up(self, handle: RunHandle) -> None:
        """A reader's connection broke. Ends the run, wherever it lives, if its input says so."""
        if handle.on_disconnect == "cancel" and not handle.tail.ended:
            await self.cancel(handle.principal, handle.project_id, handle.run_id)

    @property
    def live(self) -> int:
        """How many runs this process holds."""
        return len(self._live)

    def states(self) -> dict[str, int]:
        """How many runs are live in this process, and how many ended in each state since it started."""
        return self._live.states()

    async def shutdown(self, grace: float) -> None:
        """Take no more runs and offer those that live to other processes, at once. Who is not taken may end here within
        ``grace`` seconds, and so long readers may follow; what then still lives goes on where the next process starts.
        """
        self._closing = True
        await self._leases.hand_over()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._live.wait()
                await self._wakeups.alone.wait()
        self._wakeups.close()
        for run in self._live:
            run.lose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._live.wait()
        for task in list(self._taking):
            task.cancel()
        await self._writer.stop()
        if self._loading is not None:
            with contextlib.suppress(Exception):
                await self._loading

    def _take(self, claim: Claim) -> None:
        task = asyncio.create_task(self._succession.go_on(claim), name=f"take-{claim.run_id}")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def _told_of_a_claim(self, payload: str) -> None:
        run_id, _, epoch = payload.partition(" ")
        mine = self._live.held().get(UUID(run_id))
        if mine is not None and mine < int(epoch):
            self._live.lost(UUID(run_id), mine)

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
        ledger = Ledger(self._database, self._owner)
        return kit.load(self._models, self._mcp_app, self._fetch, self._database, self._consent, ledger)

    def _new_run(self, principal: Principal, project: UUID, agent: str, asked: RunInput) -> NewRun:
        return NewRun(
            caller=principal,
            project_id=project,
            thread_id=uuid7(),
            thread=asked.thread_id,
            id=uuid7(),
            external_id=asked.run_id,
            agent=agent,
            on_disconnect=asked.on_disconnect,
            on_busy=asked.on_busy,
            input=asked.text,
            digest=asked.digest_for(agent),
            owner=self._owner,
            lease=self._leases.lease,
            started_event=agui.encode(agui.run_started(asked.thread_id, asked.run_id)),
        )

    def _launch(self, kit: Kit, made: Beginning) -> None:
        """Let the run live that a transaction has begun. If the process dies before, another one takes it up."""
        if made.begun.outcome == "queued":
            self._leases.look()
        plan, new = made.plan(), made.new
        if plan is not None:
            log = EventLog(new.project_id, new.id, FIRST_EPOCH, [new.started_event], self._writer.touch)
            self._live.begin(kit, plan, log)
