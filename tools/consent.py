"""What a run's calls wait for, for the run engine: the questions, and what its client answers to them.

The record of :mod:`tools.approval`, reached a third way. A client answers for whoever uses it: it may allow what its
own key may do, and deny anything its run asked. What only the agent lends to a run, a person allows on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from db import approvals, ledger
from db.errors import AppError, conflict, not_found
from db.principal import Principal
from tools.catalog import Catalog
from tools.decisions import obstacle
from tools.ports import Services
from tools.preview import Preview

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked; implements ``agents.interrupts.Question``."""

    tool: str
    effect: str
    facts: Mapping[str, str]
    url: str
    expires_at: datetime


class Consent:
    """Implements ``agents.interrupts.Consent``: each call within a transaction of the caller, in the run's project."""

    def __init__(self, services: Services, catalog: Catalog) -> None:
        self._services = services
        self._catalog = catalog

    async def questions(
        self, connection: Connection, principal: Principal, ids: Iterable[UUID]
    ) -> Mapping[UUID, Question]:
        """What the runs of ``principal`` asked under these ids."""
        rows = [await approvals.of_run(connection, principal, one) for one in ids]
        return {row["id"]: self._question(row) for row in rows if row is not None}

    async def settle(
        self, connection: Connection, principal: Principal, project_id: UUID, approval_id: UUID, approve: bool | None
    ) -> None:
        """Record what the client answered; ``None``: whatever a person decides elsewhere. Raises ``AppError`` unless
        the call may be made, or was denied by this very answer."""
        row = await approvals.of_run(connection, principal, approval_id)
        if row is None and await approvals.adopt(connection, approval_id):
            row = await approvals.of_run(connection, principal, approval_id)
        if row is None:
            raise not_found("interrupt", "Resume as who started the run, with the ids that it was given.")
        if approve is False:
            if await approvals.answer_of_run(connection, approval_id, principal.user_id, approve=False):
                await self._note(connection, principal, row, "deny")
            return
        state, url = row["state"], self._services.pages.approval(approval_id)
        if state == "approved" or (state == "denied" and approve is None):
            return
        if state == "pending" and approve:
            await self._allow(connection, principal, project_id, row, url)
            return
        raise _unsettled(state, url)

    async def _allow(
        self, connection: Connection, principal: Principal, project_id: UUID, row: asyncpg.Record, url: str
    ) -> None:
        refused = await self._refusal(connection, principal, project_id, row)
        if refused is not None:
            raise AppError(
                "interrupt_not_yours",
                403,
                f"This key may not allow the call. {refused.message}",
                f"Have somebody who may do it themselves allow it at {url}, then resume without a payload.",
                details=refused.details,
            )
        if not await approvals.answer_of_run(connection, row["id"], principal.user_id, approve=True):
            raise _unsettled("expired", url)
        await self._note(connection, principal, row, "allow")

    async def _refusal(
        self, connection: Connection, principal: Principal, project_id: UUID, row: asyncpg.Record
    ) -> AppError | None:
        if principal.run_id is not None:
            return conflict("run_speaks_for_nobody", "A run speaks for no person.", "Ask the user.")
        # The run may have asked about another project than its own.
        await approvals.enter(connection, row["project_id"])
        refused = await obstacle(connection, self._services, self._catalog, principal, row)
        await approvals.enter(connection, project_id)
        return refused

    async def _note(self, connection: Connection, principal: Principal, row: asyncpg.Record, verdict: str) -> None:
        action = f"{verdict}:{row['tool']}"
        await ledger.audit(connection, principal, row["project_id"], action, str(row["id"]))

    def _question(self, row: asyncpg.Record) -> Question:
        shown = Preview.of(row["preview"])
        url = self._services.pages.approval(row["id"])
        return Question(row["tool"], shown.effect, shown.facts, url, row["expires_at"])


def _unsettled(state: str, url: str) -> AppError:
    """Why an interrupt cannot be resumed with a yes."""
    if state == "pending":
        return conflict("interrupt_pending", "Nobody has decided this yet.", f"Answer it, or have it decided at {url}.")
    if state == "denied":
        return conflict(
            "interrupt_denied",
            "A person did not allow this.",
            f"Resume with status 'cancelled'. They can still allow it at {url} while it waits.",
        )
    return AppError(
        "interrupt_expired",
        410,
        "This question was used or has expired.",
        "Resume with status 'cancelled', or send a new message; the agent can ask again.",
    )
