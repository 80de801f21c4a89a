"""What calls that ask first are waiting for: one record for each caller, tool and arguments, used once.

The caller is the credential, its end user, and whether it calls itself or through a run: what a person allowed one of
them is of no use to another. Each function takes a connection inside a caller's or a person's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

from db import ledger
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

Policy: TypeAlias = Literal["always", "when_new", "never"]
REMEMBERED: Final = "30 days"
MOST_WAITING: Final = 50
"""Questions of one credential that may wait at once: nobody looks through more, and each keeps its arguments."""
_THIS_CALLER: Final = "credential_id = $1 AND end_user_id IS NOT DISTINCT FROM $2 AND through_run = $3 AND tool = $4"
_LIVE: Final = "state IN ('pending', 'approved', 'denied')"
_SHOWN: Final = (
    "a.id, a.credential_id, a.user_id, a.through_run, a.project_id, a.tool, a.arguments_digest, a.arguments, a.preview,"
    " a.created_at, a.expires_at, a.decided_at, a.decided_through, a.used_at, CASE WHEN a.expires_at <= now() AND"
    " a.state IN ('pending', 'approved', 'denied') THEN 'expired' ELSE a.state END AS state"
)


@dataclass(frozen=True, slots=True)
class Act:
    """One call as an approval knows it. ``target``: what it acts on; ``digest``: of the tool and all its arguments."""

    principal: Principal
    project_id: UUID | None
    tool: str
    target: str
    digest: bytes

    @property
    def _caller(self) -> tuple[UUID, UUID | None, bool, str]:
        who = self.principal
        return who.credential_id, who.end_user_id, who.run_id is not None, self.tool

    @property
    def exactly(self) -> tuple[object, ...]:
        return *self._caller, self.digest

    @property
    def alike(self) -> tuple[object, ...]:
        return *self._caller, self.target


async def policy(connection: Connection, project_id: UUID | None) -> Policy:
    """What the project wants; ``always`` outside any project, and for one the caller cannot see."""
    found: Policy | None = None
    if project_id is not None:
        found = await connection.fetchval("SELECT approval_policy FROM projects WHERE id = $1", project_id)
    return found or "always"


async def spend(connection: Connection, act: Act) -> bool:
    """Use up the approval of exactly this call. It becomes used when the transaction of the effect commits."""
    return bool(
        await connection.fetchval(
            "UPDATE approvals SET state = 'used', used_at = now()"  # noqa: S608  fixed text
            f" WHERE {_THIS_CALLER} AND arguments_digest = $5 AND state = 'approved' AND expires_at > now()"
            " RETURNING true",
            *act.exactly,
        )
    )


async def used_lately(connection: Connection, act: Act) -> bool:
    """Whether this caller was allowed this tool on this target in the last 30 days; asking counts as a use."""
    return bool(
        await connection.fetchval(
            "UPDATE approvals SET used_at = now() WHERE id = (SELECT id FROM approvals"  # noqa: S608  fixed text
            f" WHERE {_THIS_CALLER} AND target = $5 AND state = 'used' AND used_at > now() - interval '{REMEMBERED}'"
            " ORDER BY used_at DESC LIMIT 1) RETURNING true",
            *act.alike,
        )
    )


async def ask(
    connection: Connection, act: Act, arguments: Mapping[str, Any], preview: Mapping[str, Any]
) -> asyncpg.Record:
    """The live record of this call, made when there is none; two calls at once get the same one. Raises ``AppError``
    429 when too many wait already."""
    await connection.execute(
        "UPDATE approvals SET state = 'expired'"  # noqa: S608  fixed text
        f" WHERE {_THIS_CALLER} AND arguments_digest = $5 AND {_LIVE} AND expires_at <= now()",
        *act.exactly,
    )
    if await _waiting(connection, act) >= MOST_WAITING:
        raise AppError(
            "too_many_questions",
            429,
            f"{MOST_WAITING} calls of this key wait for a person already.",
            "Have the user answer them on the approvals page, or wait until they expire.",
            retryable=True,
            retry_after=60,
        )
    while True:
        await connection.execute(
            "INSERT INTO approvals (credential_id, end_user_id, through_run, tool, arguments_digest, id, user_id,"
            " run_id, project_id, target, arguments, preview)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
            *act.exactly,
            *(uuid7(), act.principal.user_id, act.principal.run_id, act.project_id, act.target),
            *(json.loads(json.dumps(arguments, default=ledger.plain)), preview),
        )
        found = await connection.fetchrow(
            f"SELECT {_SHOWN} FROM approvals a WHERE {_THIS_CALLER} AND arguments_digest = $5 AND {_LIVE}",  # noqa: S608  fixed text
            *act.exactly,
        )
        if found is not None:
            return found


async def _waiting(connection: Connection, act: Act) -> int:
    """How many other calls of the credential wait."""
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM approvals WHERE credential_id = $1 AND state = 'pending' AND expires_at > now()"
            " AND (tool, arguments_digest) <> ($2, $3)",
            *(act.principal.credential_id, act.tool, act.digest),
        )
    )


async def answer(connection: Connection, act: Act, approval_id: UUID, *, approve: bool) -> bool:
    """What the person at the caller's own client said to this very call. False when it no longer waits for that."""
    return bool(
        await connection.fetchval(
            "UPDATE approvals SET state = $7, decided_by = $8, decided_through = 'elicitation', decided_at = now(),"  # noqa: S608  fixed text
            f" expires_at = now() + interval '10 minutes' WHERE {_THIS_CALLER} AND arguments_digest = $5 AND id = $6"
            " AND state = 'pending' AND expires_at > now() RETURNING true",
            *act.exactly,
            *(approval_id, "approved" if approve else "denied", act.principal.user_id),
        )
    )


async def of_run(connection: Connection, principal: Principal, approval_id: UUID) -> asyncpg.Record | None:
    """What a run of this caller asked, and how it stands; ``None`` for everything else."""
    return await connection.fetchrow(
        f"SELECT {_SHOWN} FROM approvals a WHERE a.id = $1 AND a.credential_id = $2"  # noqa: S608  fixed text
        " AND a.end_user_id IS NOT DISTINCT FROM $3 AND a.through_run",
        *(approval_id, principal.credential_id, principal.end_user_id),
    )


async def adopt(connection: Connection, approval_id: UUID) -> bool:
    """Let what a run asked be this caller's own question from now on, if it was one of theirs under another credential:
    of the same end user, or without one of the same account, in this project. False for everything else."""
    return bool(await connection.fetchval("SELECT adopt_question($1)", approval_id))


async def answer_of_run(connection: Connection, approval_id: UUID, user_id: UUID, *, approve: bool) -> bool:
    """What the caller's client answered to an interrupt of a run. It may take back what was allowed, but not allow what
    was denied. False when the record waits for neither."""
    return bool(
        await connection.fetchval(
            "UPDATE approvals SET state = $2, decided_by = $3, decided_through = 'interrupt', decided_at = now(),"
            " expires_at = now() + interval '10 minutes' WHERE id = $1 AND through_run AND state = ANY($4)"
            " AND expires_at > now() RETURNING true",
            *(approval_id, "approved" if approve else "denied", user_id),
            ["pending"] if approve else ["pending", "approved"],
        )
    )


async def enter(connection: Connection, project_id: UUID | None) -> None:
    """Make this project that of the transaction; ``None``: none."""
    await connection.execute("SELECT set_config('app.project_id', $1, true)", str(project_id or ""))


async def find(connection: Connection, approval_id: UUID) -> asyncpg.Record | None:
    """One record as a person sees it, with the name and hint of the key that asked where the person may know them."""
    return await connection.fetchrow(
        f"SELECT {_SHOWN}, c.name AS key_name, c.hint AS key_hint FROM approvals a"  # noqa: S608  fixed text
        " LEFT JOIN credentials c ON c.id = a.credential_id WHERE a.id = $1",
        approval_id,
    )


async def latest(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """What the person may see, those that wait first, then the newest. Not what they do on the pages themselves: that
    is asked and answered there."""
    return await connection.fetch(
        f"SELECT {_SHOWN} FROM approvals a"  # noqa: S608  fixed text
        " WHERE NOT EXISTS (SELECT FROM credentials c WHERE c.id = a.credential_id AND c.kind = 'session')"
        " ORDER BY (a.state = 'pending' AND a.expires_at > now()) DESC, a.id DESC LIMIT $1",
        limit,
    )


async def decide(connection: Connection, approval_id: UUID, person: UUID, *, approve: bool) -> bool:
    """A person's decision on the page; it may be changed until it is used. False when it is used, expired or theirs not
    to make. Either decision holds for 10 minutes."""
    return bool(
        await connection.fetchval(
            "UPDATE approvals SET state = $2, decided_by = $3, decided_through = 'page', decided_at = now(),"  # noqa: S608  fixed text
            f" expires_at = now() + interval '10 minutes' WHERE id = $1 AND (SELECT acting_person()) = $3 AND {_LIVE}"
            " AND expires_at > now() RETURNING true",
            *(approval_id, "approved" if approve else "denied", person),
        )
    )
