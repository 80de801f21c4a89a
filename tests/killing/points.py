"""Named points in the life of a run at which its process dies, or waits; laid into the product from outside.

``lay`` once in a process, with what is to happen where. A point is passed again and again: ``on`` says which time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from agents import beginning
from agents.engine import RunEngine
from agents.journal import MODEL, TOOL, Journal
from agents.narrator import Narrator
from agents.succession import Succession
from db import events, ledger, runs
from db.transaction import Transaction
from server.mail.carrier import Carried, Carrier, Leaving
from server.mail.message import Message
from server.mail.post import Post

MODEL_BEGINS: Final = "the model is about to be asked"
MODEL_SPEAKS: Final = "the model has said a piece"
MODEL_DONE: Final = "the model has answered, which is not recorded"
MODEL_RECORDED: Final = "the model's answer is recorded"
TOOL_BEGINS: Final = "a tool is about to be called"
EFFECT_WRITTEN: Final = "a tool's effect is written, not committed"
EFFECT_COMMITTING: Final = "a tool's effect is being committed"
TOOL_DONE: Final = "a tool was called, which is not recorded"
TOOL_RECORDED: Final = "a tool's call is recorded"
STEP_WRITING: Final = "a step is about to be written"
STEP_WRITTEN: Final = "a step is written, which nobody knows"
STEP_COMMITTING: Final = "a step is being committed"
EVENTS_WRITING: Final = "events are about to be written"
EVENTS_WRITTEN: Final = "events are written, which nobody knows"
BEGINNING: Final = "a run is begun, not committed"
BEGUN: Final = "a run is begun and committed, and lives nowhere"
ENDING: Final = "a run's end is about to be written"
ENDED: Final = "a run's end is written, which nobody knows"
ENDING_COMMITTING: Final = "a run's end is being committed"
TAKING_OVER: Final = "a run is claimed, and not yet taken over"
STEP_WAITS: Final = "a step waits for its commit, and all else goes on"
EVENTS_WAIT: Final = "events wait for their commit, and all else goes on"
ENDING_WAITS: Final = "a run's end waits for its commit, and all else goes on"
BEGINNING_WAITS: Final = "a run's beginning waits for its commit, and all else goes on"
WRITE_WAITS: Final = "a write waits for its commit, and all else goes on"
MAIL_BEGINS: Final = "a mail is about to be handed over"
MAIL_LEAVES: Final = "a mail is noted as leaving"
MAIL_CARRIED: Final = "a mail is handed over, which is not recorded"

EVERY: Final = (
    *(MODEL_BEGINS, MODEL_SPEAKS, MODEL_DONE, MODEL_RECORDED),
    *(TOOL_BEGINS, EFFECT_WRITTEN, EFFECT_COMMITTING, TOOL_DONE, TOOL_RECORDED),
    *(STEP_WRITING, STEP_COMMITTING, STEP_WRITTEN, EVENTS_WRITING, EVENTS_WRITTEN),
    *(BEGINNING, BEGUN, ENDING, ENDING_COMMITTING, ENDED, TAKING_OVER),
    *(STEP_WAITS, EVENTS_WAIT, ENDING_WAITS, BEGINNING_WAITS, WRITE_WAITS),
    *(MAIL_BEGINS, MAIL_LEAVES, MAIL_CARRIED),
)
COMMITTING: Final = {EFFECT_COMMITTING, STEP_COMMITTING, ENDING_COMMITTING}
"""Points at which the message with the commit has left, and its answer never comes."""
WINDOWS: Final = {STEP_WAITS, EVENTS_WAIT, ENDING_WAITS, BEGINNING_WAITS, WRITE_WAITS}
"""Points that are held open: whatever does not wait for the commit, though it should, happens before it."""
WINDOW_SECONDS: Final = 0.3
HELD: Final = (MODEL_BEGINS, MODEL_DONE, MODEL_RECORDED, TOOL_BEGINS, TOOL_DONE, TOOL_RECORDED)
"""Points at which a run can be stuck for ever while its process goes on."""

Act = Literal["die", "hold", "stop", "end"]


@dataclass(frozen=True)
class Point:
    """What happens when ``name`` is passed for the ``on``-th time: the process dies, waits here for SIGUSR1 (``hold``),
    stands still, with all its runs and readers, until SIGCONT (``stop``), or is told to ``end`` by SIGTERM while it
    waits here."""

    name: str
    on: int = 1
    act: Act = "die"


def lay(where: Any, name: str, what: Any) -> None:
    setattr(where, name, what)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Points:
    """Those of one process. ``told`` hears what point it has ``reached``, or that it is ``stuck``."""

    def __init__(self, points: Sequence[Point], told: Callable[..., None]) -> None:
        self.released = asyncio.Event()
        self._points = {point.name: point for point in points}
        self._passed: Counter[str] = Counter()
        self._writing: dict[Any, str] = {}
        self._told = told

    def pass_by(self, name: str) -> None:
        """Die or stand still here, if that is what is to happen."""
        point = self._due(name)
        if point is None:
            return
        act = self._stop if point.act == "stop" else die
        if name in COMMITTING:
            asyncio.get_running_loop().call_soon(act)
        else:
            act()

    async def at(self, name: str) -> None:
        """The same where the process can also wait."""
        point = self._due(name)
        if point is None:
            return
        if name in WINDOWS:
            await asyncio.sleep(WINDOW_SECONDS)
        if point.act in ("hold", "end"):
            self._told(reached=name)
            if point.act == "end":
                os.kill(os.getpid(), signal.SIGTERM)
            await self.released.wait()
        elif point.act == "stop":
            self._stop()
        else:
            die()

    def _due(self, name: str) -> Point | None:
        point = self._points.get(name)
        # The rehearsal of a process, which has a thread and a loop of its own, is no run.
        if point is None or threading.current_thread() is not threading.main_thread():
            return None
        self._passed[name] += 1
        return point if self._passed[name] == point.on else None

    def _stop(self) -> None:
        self._told(stuck=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    def lay(self) -> None:
        """Into the steps of runs, the writer, the transactions of tools, and the carriers of mail."""
        self._lay_into_steps()
        self._lay_into_effects()
        self._lay_into_the_log()
        self._lay_into_runs()
        self._lay_into_mail()

    def _lay_into_steps(self) -> None:
        points, step, tell = self, Journal.step, Narrator.tell
        before = {MODEL: MODEL_BEGINS, TOOL: TOOL_BEGINS}
        between = {MODEL: MODEL_DONE, TOOL: TOOL_DONE}
        after = {MODEL: MODEL_RECORDED, TOOL: TOOL_RECORDED}

        async def step_by_points(
            journal: Journal, kind: str, number: int, call_id: str, body: Callable[[], Awaitable[Any]]
        ) -> Any:
            async def carried_out() -> Any:
                await points.at(before[kind])
                value = await body()
                await points.at(between[kind])
                return value

            value = await step(journal, kind, number, call_id, carried_out)
            await points.at(after[kind])
            return value

        def tell_and_pass(narrator: Narrator, event: Any) -> None:
            tell(narrator, event)
            points.pass_by(MODEL_SPEAKS)

        lay(Journal, "step", step_by_points)
        lay(Narrator, "tell", tell_and_pass)

    def _lay_into_effects(self) -> None:
        points, save, leave = self, ledger.save, Transaction.__aexit__

        async def save_and_pass(connection: Any, principal: Any, *more: Any) -> None:
            await save(connection, principal, *more)
            points._writing[connection] = WRITE_WAITS
            if principal.run_id is not None:
                await points.at(EFFECT_WRITTEN)

        async def leave_and_pass(transaction: Transaction, kind: Any, error: Any, traceback: Any) -> None:
            writing = points._writing.pop(transaction._connection, None)
            if kind is None and writing is not None:
                await points.at(writing)
            if kind is None and transaction._commit != "COMMIT":
                points.pass_by(EFFECT_COMMITTING)
            await leave(transaction, kind, error, traceback)

        lay(ledger, "save", save_and_pass)
        lay(Transaction, "__aexit__", leave_and_pass)

    def _lay_into_the_log(self) -> None:
        points, append = self, events.append

        async def append_and_pass(connection: Any, owner: Any, batches: Any, **more: Any) -> Any:
            with_steps = any(batch.steps for batch in batches)
            if batches:
                await points.at(STEP_WAITS if with_steps else EVENTS_WAIT)
            points.pass_by(STEP_WRITING if with_steps else EVENTS_WRITING)
            if with_steps:
                points.pass_by(STEP_COMMITTING)
            refused = await append(connection, owner, batches, **more)
            points.pass_by(STEP_WRITTEN if with_steps else EVENTS_WRITTEN)
            return refused

        lay(events, "append", append_and_pass)

    def _lay_into_runs(self) -> None:
        points, finish, launch = self, runs.finish, RunEngine._launch
        begin, take = beginning.begin, Succession._begin

        async def finish_and_pass(*arguments: Any) -> Any:
            await points.at(ENDING)
            await points.at(ENDING_WAITS)
            points.pass_by(ENDING_COMMITTING)
            answer = await finish(*arguments)
            await points.at(ENDED)
            return answer

        async def begin_and_pass(kit: Any, connection: Any, *arguments: Any) -> Any:
            made = await begin(kit, connection, *arguments)
            points._writing[connection] = BEGINNING_WAITS
            await points.at(BEGINNING)
            return made

        def pass_and_launch(one: RunEngine, *arguments: Any) -> None:
            points.pass_by(BEGUN)
            launch(one, *arguments)

        async def pass_and_take(one: Succession, *arguments: Any) -> None:
            await points.at(TAKING_OVER)
            await take(one, *arguments)

        lay(runs, "finish", finish_and_pass)
        lay(beginning, "begin", begin_and_pass)
        lay(RunEngine, "_launch", pass_and_launch)
        lay(Succession, "_begin", pass_and_take)

    def _lay_into_mail(self) -> None:
        points, carrier_of = self, Post.carrier_of

        def dying_carrier_of(post: Post, *which: Any) -> Carrier | None:
            carrier = carrier_of(post, *which)
            return None if carrier is None else _PassingCarrier(carrier, points)

        lay(Post, "carrier_of", dying_carrier_of)


class _PassingCarrier:
    def __init__(self, carrier: Carrier, points: Points) -> None:
        self._carrier = carrier
        self._points = points

    @property
    def route(self) -> str:
        return self._carrier.route

    @property
    def repeats(self) -> timedelta:
        return self._carrier.repeats

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        async def noted() -> None:
            await leaving()
            self._points.pass_by(MAIL_LEAVES)

        self._points.pass_by(MAIL_BEGINS)
        carried = await self._carrier.carry(message, noted)
        self._points.pass_by(MAIL_CARRIED)
        return carried
