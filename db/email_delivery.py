"""Queries of the delivery of mails, as the jobs that deliver them: inside the project's tenant.

An attempt has three steps, each committed before the next: it begins, the mail leaves, it is settled. Whoever dies in
between leaves a row that tells the next one how far it had come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from db import emails, jobs
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@traced
async def begin(connection: Connection, email_id: UUID) -> asyncpg.Record | None:
    """Count one more attempt at a mail that waits for one; ``None`` when it does not (any more)."""
    return await connection.fetchrow(
        "UPDATE emails e SET attempts = attempts + 1, updated_at = now(),"
        " status = CASE status WHEN 'scheduled' THEN 'queued' ELSE status END"
        " WHERE id = $1 AND project_id = (SELECT writable_project()) AND status IN ('scheduled', 'queued', 'sending')"
        " RETURNING e.*",
        email_id,
    )


@traced
async def subscribed(connection: Connection, contact_id: UUID) -> bool:
    """Whether the contact still gets mail for an audience; a contact that is gone counts as one who does."""
    found = await connection.fetchval(
        "SELECT subscribed FROM contacts WHERE id = $1 AND project_id = (SELECT readable_project())", contact_id
    )
    return found is not False


@traced
async def hand_over(connection: Connection, email_id: UUID, attempt: int, route: str, withheld: Sequence[str]) -> bool:
    """Write down that the mail is about to leave by ``route``, and whom it does not go to because they are suppressed.

    False: another attempt has begun since.
    """
    row = await connection.fetchrow(
        "UPDATE emails e SET status = 'sending', route = $3, withheld = $4, updated_at = now(),"
        " handed_over_at = CASE WHEN e.route = $3 THEN e.handed_over_at ELSE now() END FROM emails before"
        " WHERE e.id = $1 AND e.attempts = $2 AND e.project_id = (SELECT writable_project())"
        " AND e.status IN ('queued', 'sending') AND before.project_id = e.project_id AND before.id = e.id"
        " RETURNING before.withheld <> $4 AS more_withheld",
        *(email_id, attempt, route, list(withheld)),
    )
    if row is not None and row["more_withheld"]:
        await emails.note(connection, email_id, "suppressed", None, withheld)
    return row is not None


@traced
async def sent(connection: Connection, email_id: UUID, provider_id: str | None, refused: Mapping[str, str]) -> None:
    """The provider has it. True whatever else was thought of it meanwhile; what came later still counts more."""
    await connection.execute(
        "UPDATE emails SET"
        " status = CASE WHEN status IN ('queued', 'sending', 'unconfirmed') THEN 'sent' ELSE status END,"
        " provider_id = coalesce($2, provider_id), sent_at = coalesce(sent_at, now()), error = NULL, updated_at = now()"
        " WHERE id = $1 AND project_id = (SELECT writable_project())",
        *(email_id, provider_id),
    )
    told = "SELECT EXISTS (SELECT FROM email_events WHERE email_id = $1 AND kind = 'sent' AND project_id ="
    if not await connection.fetchval(f"{told} (SELECT readable_project()))", email_id):
        await emails.note(connection, email_id, "sent")
    for address, detail in refused.items():
        await emails.note(connection, email_id, "failed", detail, [address])


@traced
async def settle(
    connection: Connection,
    email_id: UUID,
    attempt: int,
    *,
    status: str,
    event: str,
    detail: str | None = None,
    not_on_its_way: bool = False,
    again: datetime | None = None,
) -> None:
    """What came of an attempt that sent nothing, or nobody knows what. With ``again`` the next one begins then.

    ``not_on_its_way``: it was refused or never left, so the next attempt may take any route. Without effect when
    another attempt has begun, or the provider has told more, meanwhile.
    """
    settled = await connection.fetchval(
        "UPDATE emails SET status = $3, error = $4, updated_at = now(), route = CASE WHEN $5 THEN NULL ELSE route END"
        " WHERE id = $1 AND attempts = $2 AND project_id = (SELECT writable_project())"
        " AND status IN ('queued', 'sending') RETURNING true",
        *(email_id, attempt, status, detail, not_on_its_way),
    )
    if not settled:
        return
    await emails.note(connection, email_id, event, detail)
    if again is not None:
        await jobs.enqueue(connection, emails.DELIVER, {"email_id": email_id}, at=again)


@traced
async def fetch(connection: Connection, email_id: UUID) -> asyncpg.Record | None:
    """The whole row, with its history, for who shows it to a person."""
    return await connection.fetchrow(
        "SELECT e.*, coalesce((SELECT jsonb_agg(jsonb_build_object('event', v.kind, 'at', v.at, 'detail', v.detail,"
        " 'recipients', v.recipients) ORDER BY v.id) FROM email_events v"
        " WHERE v.project_id = e.project_id AND v.email_id = e.id), '[]') AS events"
        " FROM emails e WHERE e.id = $1 AND e.project_id = (SELECT readable_project())",
        email_id,
    )


@traced
async def start_again(connection: Connection, email_id: UUID) -> bool:
    """Send a mail that was kept, failed or is unconfirmed after all, because a person says so. False: it is none."""
    again = await connection.fetchval(
        "UPDATE emails SET status = 'queued', attempts_before = attempts, route = NULL, error = NULL,"
        " updated_at = now()"
        " WHERE id = $1 AND project_id = (SELECT writable_project())"
        " AND status IN ('kept', 'failed', 'unconfirmed') RETURNING true",
        email_id,
    )
    if again:
        await emails.note(connection, email_id, "queued")
        await jobs.enqueue(connection, emails.DELIVER, {"email_id": email_id})
    return bool(again)
