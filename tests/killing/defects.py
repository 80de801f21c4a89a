"""Faults that can be built into a house, to see that the rounds find them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from uuid import UUID, uuid4

from agents import house_tools
from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.journal import TOOL, Journal
from agents.leases import Leases
from agents.live_runs import LiveRuns
from agents.narrator import Narrator
from db import run_leases, runs
from db.transaction import Transaction
from server.mail.message import Message
from tests.conftest import Owner
from tests.killing.points import lay


def no_record_of_tools() -> None:
    """What a tool returned is not in the journal."""
    step = EventLog.step

    def forget(log: EventLog, name: str, value: bytes, **more: Any) -> asyncio.Event:
        if not name.startswith(TOOL):
            return step(log, name, value, **more)
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


def steps_are_not_waited_for() -> None:
    """A run goes on before its step is in the journal."""
    step = EventLog.step

    def hurry(log: EventLog, name: str, value: bytes, **more: Any) -> asyncio.Event:
        step(log, name, value, **more)
        done = asyncio.Event()
        done.set()
        return done

    lay(EventLog, "step", hurry)


def calls_are_not_waited_for() -> None:
    """The same for the calls of tools only."""
    step = EventLog.step

    def hurry(log: EventLog, name: str, value: bytes, **more: Any) -> asyncio.Event:
        kept = step(log, name, value, **more)
        if name.startswith(TOOL):
            kept = asyncio.Event()
            kept.set()
        return kept

    lay(EventLog, "step", hurry)


def events_are_shown_at_once() -> None:
    """Readers see events before these are committed."""
    take = EventLog.take

    def take_and_show(log: EventLog, now: float) -> Any:
        batch = take(log, now)
        log._wake()
        return batch

    lay(EventLog, "take", take_and_show)
    lay(EventLog, "after", lambda log, seq: list(enumerate(log._frames[seq:], seq + 1)))


def ends_are_told_at_once() -> None:
    """A run's last event is shown before it is committed."""
    finish: Any = EventWriter.finish

    async def tell_and_finish(writer: EventWriter, log: EventLog, ending: Any) -> None:
        take = log.take

        def take_and_tell(now: float) -> Any:
            batch = take(now)
            if batch is not None:
                log.confirm(batch)
                log.end()
            return batch

        lay(log, "take", take_and_tell)
        await finish(writer, log, ending)

    lay(EventWriter, "finish", tell_and_finish)


def writes_are_answered_at_once() -> None:
    """Whoever leaves a transaction does not wait for its commit."""
    leave: Any = Transaction.__aexit__
    committing: set[asyncio.Task[None]] = set()

    async def leave_soon(transaction: Transaction, kind: Any, *more: Any) -> None:
        if kind is not None:
            await leave(transaction, kind, *more)
            return
        task = asyncio.create_task(leave(transaction, kind, *more))
        committing.add(task)
        task.add_done_callback(committing.discard)

    lay(Transaction, "__aexit__", leave_soon)


def no_handing_over() -> None:
    """A process that ends keeps its leases until they run out."""
    lay(Leases, "hand_over", Leases.stop)


def cancels_are_forgotten() -> None:
    """Who takes a run over does not look whether it was to end, nor remember that it was told."""
    keep, renew, cancel = run_leases.keep, run_leases.renew_leases, LiveRuns.cancel

    async def keep_on(*arguments: Any) -> Any:
        kept = await keep(*arguments)
        return kept and replace(kept, cancel=False)

    async def renew_only(*arguments: Any) -> Any:
        return [replace(lease, cancel=False) for lease in await renew(*arguments)]

    def cancel_here_only(live: LiveRuns, run_id: UUID) -> None:
        if live.find(run_id) is not None:
            cancel(live, run_id)

    lay(LiveRuns, "cancel", cancel_here_only)
    lay(run_leases, "keep", keep_on)
    lay(run_leases, "renew_leases", renew_only)


def mails_have_new_keys() -> None:
    """A mail that is handed over again looks like another one."""
    lay(Message, "key", property(lambda _message: str(uuid4())))


DEFECTS: Final[dict[str, Callable[[], None]]] = {
    "no record of tools": no_record_of_tools,
    "no idempotency key": no_idempotency_key,
    "results are told again": results_are_told_again,
    "no messages": no_messages,
    "no replay": no_replay,
    "steps are not waited for": steps_are_not_waited_for,
    "calls are not waited for": calls_are_not_waited_for,
    "events are shown at once": events_are_shown_at_once,
    "ends are told at once": ends_are_told_at_once,
    "writes are answered at once": writes_are_answered_at_once,
    "no handing over": no_handing_over,
    "cancels are forgotten": cancels_are_forgotten,
    "mails have new keys": mails_have_new_keys,
}

UNFENCED: Final = {
    "no fence of events": ("append_events", " AND r.lease_owner = p_owner AND r.lease_epoch = w.epoch", ""),
    "no fence of effects": ("require_lease", "epoch IS DISTINCT FROM p_epoch OR state <> 'running'", "false"),
}
"""Defects of the database: what is written by who does not have the run any more is taken."""


async def build_into(owner: Owner, defect: str) -> None:
    """Change the function of the database that the defect is in."""
    name, fence, without = UNFENCED[defect]
    function = await owner.fetchval("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1", name)
    assert fence in function
    await owner.execute(function.replace(fence, without))
