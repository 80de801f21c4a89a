"""What a person sees of the calls that wait for them, and decides about them.

A person may decide what they could do themselves: they hold the tool's scope, and the tool would not refuse them. That
is found out by asking the tool, as them, at the moment of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import ValidationError

from db import approvals, ledger
from db.errors import AppError, conflict, missing_scope, not_found
from db.principal import Principal
from tools import approval
from tools.catalog import Catalog
from tools.contract import Call
from tools.ports import Services
from tools.preview import Preview

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@dataclass(frozen=True, slots=True)
class Shown:
    """One call that waits, or waited, for a person. ``key``: the name or the first characters of the key that asked,
    empty for somebody else's. ``until``: while it is live, when the question or its answer ends."""

    id: UUID
    tool: str
    title: str
    effect: str
    facts: Mapping[str, str]
    arguments: Mapping[str, Any]
    state: Literal["pending", "approved", "denied", "used", "expired"]
    through_run: bool
    key: str
    asked_at: datetime
    until: datetime
    used_at: datetime | None

    @property
    def live(self) -> bool:
        return self.state in ("pending", "approved", "denied")


class Decisions:
    """The approvals of a process. Persons are the principals of sessions; to others nothing is there."""

    def __init__(self, services: Services, catalog: Catalog) -> None:
        self._services = services
        self._catalog = catalog

    async def latest(self, person: Principal, limit: int = 50) -> list[Shown]:
        """What the person may see: first what waits, then the newest."""
        async with self._services.database.transaction(person) as connection:
            return [self._shown(row) for row in await approvals.latest(connection, limit)]

    async def look_up(self, person: Principal, approval_id: UUID) -> tuple[Shown, AppError | None]:
        """One record, and why this person may not allow it, if so. Raises ``AppError`` when it is not there."""
        row = await self._row(person, approval_id)
        shown = self._shown(row)
        return shown, await self._obstacle(person, row) if shown.live else _closed()

    async def decide(self, person: Principal, approval_id: UUID, *, allow: bool) -> None:
        """Raises ``AppError`` when the person may not, or when there is nothing left to decide."""
        row = await self._row(person, approval_id)
        if not self._shown(row).live:
            raise _closed()
        # To forbid needs no more than membership.
        obstacle = await self._obstacle(person, row) if allow else None
        if obstacle is not None:
            raise obstacle
        async with self._services.database.transaction(person) as connection:
            if not await approvals.decide(connection, approval_id, person.user_id, approve=allow):
                raise _closed()
            action = f"{'allow' if allow else 'deny'}:{row['tool']}"
            await ledger.audit(connection, person, row["project_id"], action, str(approval_id))

    async def _row(self, person: Principal, approval_id: UUID) -> asyncpg.Record:
        row = None
        if person.kind == "session":
            async with self._services.database.transaction(person) as connection:
                row = await approvals.find(connection, approval_id)
        if row is None:
            raise not_found("approval", "Ask whoever sent you here for a new address, or open the list.")
        return row

    async def _obstacle(self, person: Principal, row: asyncpg.Record) -> AppError | None:
        async with self._services.database.transaction(person, row["project_id"]) as connection:
            return await obstacle(connection, self._services, self._catalog, person, row)

    def _shown(self, row: asyncpg.Record) -> Shown:
        spec, preview = self._catalog.tool(row["tool"]), Preview.of(row["preview"])
        return Shown(
            id=row["id"],
            tool=row["tool"],
            title=spec.title if spec else row["tool"],
            effect=preview.effect,
            facts=preview.facts,
            arguments=row["arguments"],
            state=row["state"],
            through_run=row["through_run"],
            key=row.get("key_name") or row.get("key_hint") or "",
            asked_at=row["created_at"],
            until=row["expires_at"],
            used_at=row["used_at"],
        )


async def obstacle(
    connection: Connection, services: Services, catalog: Catalog, who: Principal, row: asyncpg.Record
) -> AppError | None:
    """Why ``who`` may not allow the call of this record, found by asking the tool's preview as ``who``, within a
    transaction of theirs in the record's project."""
    spec = catalog.tool(row["tool"])
    if spec is None:
        return not_found("tool", "This version of the house has no such tool any more.")
    if not who.may(spec.scope):
        return missing_scope(spec.scope)
    try:
        values = dict(spec.input_model.model_validate(row["arguments"]))
    except ValidationError:
        return conflict("approval_outdated", "The tool takes other arguments now.", "Make the call again.")
    try:
        await approval.preview(connection, spec, Call(who, services, row["project_id"]), values)
    except AppError as refused:
        if refused.status >= 500:
            raise
        return refused
    return None


def _closed() -> AppError:
    return conflict(
        "approval_closed", "This was used or has expired meanwhile.", "Make the call again to be asked again."
    )
