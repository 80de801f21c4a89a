"""How a run begins that lives here from its start: its rows and what its client said, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agents import admission, interrupts
from agents.opening import NOTHING, Opening, opening
from agents.plan import Plan
from db import runs
from db.runs import Begun, NewRun

if TYPE_CHECKING:
    from agents.history import Turn
    from agents.kit import Kit
    from agents.run_input import RunInput
    from db.database import Connection

FIRST_EPOCH: Final = 1


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run as its transaction leaves it: what is needed to let it live once that has committed. ``turn``: what its
    model is to answer, if it starts at once."""

    new: NewRun
    begun: Begun
    asked: RunInput
    turn: Turn | None
    opening: Opening = NOTHING

    def plan(self) -> Plan | None:
        """None: it was there before, or waits for its turn."""
        if self.turn is None:
            return None
        new, begun = self.new, self.begun
        return Plan(
            new.id,
            begun.thread_id,
            new.project_id,
            new.agent,
            admission.granted(new.caller, begun.settings, new.id, FIRST_EPOCH),
            begun.settings,
            self.asked,
            self.turn,
            begun.seconds,
            opening=self.opening,
        )


async def begin(kit: Kit, connection: Connection, new: NewRun, asked: RunInput) -> Beginning:
    """Within a transaction of the caller. Raises AppError for what keeps the run from existing."""
    begun = await runs.begin(connection, new)
    admission.refuse(begun, new)
    if begun.outcome != "started":
        return Beginning(new, begun, asked, None)
    turn = await kit.next_turn(begun.history, asked, begun.settings.max_input_tokens)
    await interrupts.settle(kit.consent, connection, new.caller, new.project_id, turn.answered)
    if turn.said is not None:
        await runs.add_messages(
            connection, new.project_id, begun.thread_id, new.id, new.caller.end_user_id, kit.to_store([turn.said])
        )
    first = await opening(connection, new.project_id, begun.thread_id, asked, turn)
    return Beginning(new, begun, asked, turn, first)
