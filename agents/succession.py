"""Goes on with a run that this process has claimed: from its rows to a live run, or to its one terminal event."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from agents import agui, interrupts, takeover
from agents.admission import granted
from agents.event_log import EventLog
from agents.event_writer import EventWriter
from agents.live_run import INTERRUPTED, error_event
from agents.live_runs import LiveRuns
from agents.opening import opening
from agents.patience import PASSING
from agents.plan import Plan
from db import events, run_leases, runs
from db.aside import aside
from db.database import Database
from db.errors import AppError, unauthenticated
from db.run_leases import Claim
from db.runs import Ending

if TYPE_CHECKING:
    from agents.history import Turn
    from agents.kit import Kit
    from db.database import Connection
    from db.principal import Principal

MOST_EPOCHS: Final = 10
"""A run that this many processes have had took them with it, one after the other."""
_log = logging.getLogger("innkeeper.agents")


class Succession:
    """``kit`` gives what runs are made of, once it is imported."""

    def __init__(
        self,
        database: Database,
        owner: UUID,
        live: LiveRuns,
        writer: EventWriter,
        kit: Callable[[], Awaitable[Kit]],
    ) -> None:
        self._database = database
        self._owner = owner
        self._live = live
        self._writer = writer
        self._kit = kit

    async def go_on(self, claim: Claim) -> None:
        """Go on with the run from its last finished step. What keeps it from that is told by its terminal event; while
        the database is away nothing is, and the lease runs out."""
        self._live.claimed[claim.run_id] = claim.epoch
        try:
            if claim.epoch > MOST_EPOCHS:
                await self._end(claim, INTERRUPTED)
            else:
                await self._begin(claim, await self._kit())
        except AppError as error:
            if error.code not in PASSING and error.status != 503:
                await self._end(claim, error)
        except Exception:  # noqa: BLE001  (whatever it was, a run never just stands still)
            _log.exception("a run cannot go on", extra={"run": str(claim.run_id)})
            await self._end(claim, INTERRUPTED)
        finally:
            if self._live.claimed.get(claim.run_id) == claim.epoch:
                del self._live.claimed[claim.run_id]

    async def _begin(self, claim: Claim, kit: Kit) -> None:
        async with self._database.transaction(claim.caller, claim.project_id) as connection:
            kept = await run_leases.keep(connection, claim)
            if kept is None:
                raise unauthenticated("The key that this run was started with has been revoked or has expired.")
            frames = await events.whole(connection, claim.project_id, claim.run_id)
            asked = await kit.parse(kept.input.encode())
            turn = await kit.next_turn(kept.history, asked, kept.settings.max_input_tokens)
            await _settle(connection, kit, claim, kept.caller, turn)
            if turn.said is not None:
                stored = kit.to_store([turn.said])
                await runs.add_messages(
                    connection, claim.project_id, kept.thread_id, claim.run_id, kept.caller.end_user_id, stored
                )
            first = await opening(connection, claim.project_id, kept.thread_id, asked, turn, taken_over=claim.epoch > 1)
        if self._live.claimed.get(claim.run_id) != claim.epoch:
            return
        log = EventLog(claim.project_id, claim.run_id, claim.epoch, frames, self._writer.touch)
        broken = takeover.Legacy([], {}, {})
        if claim.epoch > 1:
            broken = await aside(lambda: takeover.legacy(frames, kept.steps_until))
        for event in broken.closing:
            log.emit(event)
        grant = granted(kept.caller, kept.settings, claim.run_id, claim.epoch)
        plan = Plan(
            claim.run_id,
            kept.thread_id,
            claim.project_id,
            kept.agent,
            grant,
            kept.settings,
            asked,
            turn,
            kept.seconds,
            kept.steps,
            broken.told,
            broken.showing,
            kept.shares,
            first,
            broken.broken,
        )
        run = self._live.begin(kit, plan, log)
        if kept.cancel:
            run.stop("asked")

    async def _end(self, claim: Claim, error: AppError) -> None:
        """End a run that never began here. Its log may stand anywhere: the database says where."""
        event = agui.encode(error_event(error))
        ending = Ending("interrupted" if error is INTERRUPTED else "failed", error.code)
        first = 1
        try:
            async with self._database.system() as connection:
                while True:
                    stands_at = await runs.finish(
                        connection, self._owner, claim.project_id, claim.run_id, claim.epoch, first, [event], [], ending
                    )
                    if stands_at is None or stands_at < 0:
                        return
                    first = stands_at + 1
        except AppError as away:
            _log.warning("the end of a run waits for the database (%s)", away.code)


async def _settle(connection: Connection, kit: Kit, claim: Claim, caller: Principal, turn: Turn) -> None:
    """What the client answered to interrupts is recorded when the run begins. Where it had begun before, its record may
    be used up by now, and whether the call may be made is found out by making it."""
    try:
        await interrupts.settle(kit.consent, connection, caller, claim.project_id, turn.answered)
    except AppError:
        if claim.epoch == 1:
            raise
