"""A run while this process holds it: one task that lets the conversation be held and always ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Literal

from opentelemetry import trace

from agents import agui
from agents.agui import Event
from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.journal import LeaseLostError
from agents.model_errors import map_model_error
from db.errors import AppError
from db.runs import Ending, Status

if TYPE_CHECKING:
    from agents.conversation import Conversation
    from agents.plan import Plan

Reason = Literal["asked", "lost"]
"""Why a run is to stop: somebody asked for its end, or another process has it, or is to have it."""

INTERRUPTED: Final = AppError(
    "run_interrupted",
    503,
    "This run was broken off again and again by the end of the process that had it.",
    "Start a new run in the same thread; what was said before this one is kept.",
    True,
)
_log = logging.getLogger("innkeeper.agents")
_tracer = trace.get_tracer("innkeeper.agents")


def error_event(error: AppError) -> Event:
    """RUN_ERROR with our words only."""
    return agui.run_error(error.code, f"{error.message} {error.hint}" if error.hint else error.message)


class LiveRun:
    """``done`` is over once the terminal event is committed, or another process has taken the run's lease."""

    def __init__(self, plan: Plan, conversation: Conversation, log: EventLog, writer: EventWriter) -> None:
        self.plan = plan
        self.log = log
        self._conversation = conversation
        self._writer = writer
        self._reason: Reason | None = None
        self._begun = False
        self._ending = False
        self.status: Status | None = None
        self.done = asyncio.create_task(self._live(), name=f"run-{plan.run_id}")

    def stop(self, reason: Reason) -> None:
        """End it soon; the first reason counts. Does nothing to a run that is ending already."""
        if self._ending or self._reason is not None:
            return
        self._reason = reason
        if self._begun:
            # A task that has not begun yet would never run, and never end its run.
            self.done.cancel()

    def lose(self) -> None:
        """Another process has it. A run whose last event is being written finds that out by itself."""
        if not self.log.closing:
            self.log.lose()
            self.stop("lost")

    async def _live(self) -> None:
        with _tracer.start_as_current_span(
            "agent.run", attributes={"run": str(self.plan.run_id), "agent": self.plan.agent}
        ) as span:
            status, code, event = await self._outcome()
            self._ending = True
            if self._reason == "lost":
                # Its own meter may have found that out first: nobody else would tell its readers.
                self.log.lose()
                return
            self.status = status
            span.set_attribute("status", status)
            outcome = event.get("outcome")
            try:
                ending = self._conversation.ending(status, code, outcome)
            except Exception:  # noqa: BLE001  (the run ends, whatever its messages hold)
                _log.exception("what a run said cannot be stored", extra={"run": str(self.plan.run_id)})
                ending = Ending(status, code, outcome)
            self._conversation.close()
            usage = self._conversation.usage(ending)
            if usage:
                event["usage"] = usage
            self.log.emit(event)
            await self._writer.finish(self.log, ending)

    async def _outcome(self) -> tuple[Status, str | None, Event]:
        asked = self.plan.asked
        self._begun = True
        if self._reason is not None:
            return self._stopped()
        deadline = asyncio.timeout(self.plan.seconds)
        try:
            async with deadline:
                pause = await self._conversation.hold()
        except asyncio.CancelledError:
            return self._stopped()
        except LeaseLostError:
            self._reason = "lost"
            return self._stopped()
        except Exception as error:  # noqa: BLE001  (every run ends with a terminal event)
            if self.log.lost:
                self._reason = "lost"
                return self._stopped()
            if isinstance(error, TimeoutError) and deadline.expired():
                return self._failed(_too_long(self.plan.settings.limits.seconds))
            mapped = map_model_error(error)
            if mapped.code == "internal_error":
                _log.exception("run failed", extra={"run": str(self.plan.run_id)})
            return self._failed(mapped)
        event = agui.run_finished(asked.thread_id, asked.run_id, pending=pause.calls, interrupts=pause.interrupts)
        return "succeeded", None, event

    def _stopped(self) -> tuple[Status, str | None, Event]:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The stop was ours to handle; what follows, the end of the run, must not be cut off by it.
            task.uncancel()
        asked = self.plan.asked
        return "cancelled", None, agui.run_finished(asked.thread_id, asked.run_id, cancelled=True)

    def _failed(self, error: AppError) -> tuple[Status, str | None, Event]:
        return "failed", error.code, error_event(error)


def _too_long(seconds: float) -> AppError:
    return AppError(
        "run_deadline_exceeded",
        504,
        f"The run did not end within {seconds:g} s.",
        "Ask for less at once, use a faster model, or have an administrator raise the agent's limit 'seconds' with"
        " update_agent (connect with ?tools=agents). A run that a run starts ends with that one.",
    )
