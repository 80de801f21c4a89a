"""Who must be asked before a tool does what cannot be undone or reaches out of the house, and what came of it.

A project's policy says when: ``always``, ``when_new`` (the first use of a tool on a target by a caller in 30 days), or
``never``. An approval is of one caller, one tool and one set of arguments, holds for 10 minutes, and is used once: the
transaction that carries out the effect uses it up. Whichever way the person was reached, it is the same record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from db import approvals, ledger
from db.errors import AppError, not_found
from db.principal import Principal
from tools.contract import Call, ToolSpec
from tools.ports import Services
from tools.preview import Preview

if TYPE_CHECKING:
    from db.database import Connection


@dataclass(frozen=True, slots=True)
class Answer:
    """What the person at the caller's own client said. ``accepted`` is ``None`` when they only closed the question."""

    approval_id: UUID
    accepted: bool | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What waits for a person: for the client that puts the question, and for whoever opens ``url``."""

    id: UUID
    url: str
    preview: Preview
    expires_at: datetime


class ApprovalRequiredError(AppError):
    """The call waits for a person; the very same call succeeds once they have allowed it."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(
            "approval_required",
            403,
            f"A person has to allow this first. {asked.preview.effect}",
            f"Show the user {asked.url} and make the same call again after they have allowed it there. "
            f"It can be allowed until {_clock(asked.expires_at)}.",
            retryable=True,
        )
        self.asked = asked


@dataclass(frozen=True, slots=True)
class Question:
    """A call that may have to ask, before anybody has been asked."""

    spec: ToolSpec
    call: Call
    values: Mapping[str, Any]
    act: approvals.Act


class NotYetAllowedError(Exception):
    """Rolls the effect's transaction back, so that the question can be put in one of its own."""

    def __init__(self, preview: Preview) -> None:
        super().__init__()
        self.preview = preview


def question(spec: ToolSpec, call: Call, values: Mapping[str, Any], digest: bytes) -> Question | None:
    """``None`` for calls that never ask."""
    acts_out = spec.hints.destructive or spec.hints.open_world
    if not acts_out and (spec.asks_when is None or not spec.asks_when(values)):
        return None
    several = isinstance(spec.target, tuple)
    named = [values.get(one) for one in spec.target or ()] if several else values.get(str(spec.target))
    target = json.dumps([str(call.project_id or ""), named], default=ledger.plain)
    return Question(spec, call, values, approvals.Act(call.principal, call.project_id, spec.name, target, digest))


async def require(connection: Connection, asking: Question) -> None:
    """Pass when the call is allowed, using its approval up with this transaction, or when it turns out to be none that
    asks. Raises ``NotYetAllowedError``, or
    what the tool itself would refuse the call with: nobody is asked about what could not be done anyway."""
    policy = await approvals.policy(connection, asking.call.project_id)
    if policy == "never" or await approvals.spend(connection, asking.act):
        return
    if policy == "when_new" and asking.spec.asks_when is None and await approvals.used_lately(connection, asking.act):
        return
    shown = await preview(connection, asking.spec, asking.call, asking.values)
    if shown is not None:
        raise NotYetAllowedError(shown)


async def preview(connection: Connection, spec: ToolSpec, call: Call, values: Mapping[str, Any]) -> Preview | None:
    """What the call would do; ``None`` when nobody has to be asked. Raises ``AppError`` where whoever calls may not do
    it."""
    if spec.preview is not None:
        return await spec.preview(call._replace(connection=connection), **values)
    if call.project_id is not None:
        may = "readable_project()" if spec.hints.read_only else "writable_project()"
        sees, does = await connection.fetchrow(f"SELECT readable_project() = $1, {may} = $1", call.project_id) or (0, 0)
        if not sees:
            raise not_found("project")
        if not does:
            hint = "Ask an owner or admin of the project to do it, or to change your role."
            lacks = "Your role in this project does not allow this."
            raise AppError("role_insufficient", 403, lacks, hint, details={"ask": {"role": "admin"}})
    return Preview(f"This carries out {spec.name} with the arguments of the call.")


async def put(services: Services, asking: Question, shown: Preview) -> AppError:
    """Put the question, or find how it was answered: the error that tells the caller."""
    async with services.database.transaction(_asking(asking.call.principal), asking.call.project_id) as connection:
        row = await approvals.ask(connection, asking.act, dict(asking.values), shown.kept())
    url = services.pages.approval(row["id"])
    if row["state"] == "denied":
        return AppError(
            "approval_denied",
            403,
            "A person was asked and did not allow this.",
            f"Do not repeat the call; ask the user what they want instead. They can still allow it at {url} until "
            f"{_clock(row['expires_at'])}.",
        )
    return ApprovalRequiredError(Asked(row["id"], url, shown, row["expires_at"]))


async def note(services: Services, asking: Question, answer: Answer) -> None:
    """Record what the person at the caller's client said. A run's client speaks for no person: its answer counts for
    nothing, and so does one to another call."""
    if answer.accepted is None or asking.call.principal.run_id is not None:
        return
    async with services.database.transaction(_asking(asking.call.principal), asking.call.project_id) as connection:
        if await approvals.answer(connection, asking.act, answer.approval_id, approve=answer.accepted):
            verdict = "allow" if answer.accepted else "deny"
            await ledger.audit(
                *(connection, asking.call.principal, asking.call.project_id, f"{verdict}:{asking.spec.name}"),
                str(answer.approval_id),
            )


async def require_apart(services: Services, asking: Question) -> None:
    """As ``require``, for a tool that only reads, so has no transaction of its own: its approval is used up before."""
    async with services.database.transaction(_asking(asking.call.principal), asking.call.project_id) as connection:
        await require(connection, asking)


def _asking(principal: Principal) -> Principal:
    """A caller that changes nothing may still ask: the question is its own row, and nobody's data."""
    return replace(principal, read_only=False)


def _clock(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M UTC")
