"""Queries of mails as their senders see them. Each takes a connection inside a caller's transaction; what a caller may
not see is not there. Those of the delivery are in :mod:`db.email_delivery`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import jobs
from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection
    from db.principal import Principal

DELIVER: Final = "deliver_email"
"""The kind of job that delivers one mail."""
_HERE: Final = "project_id = (SELECT readable_project())"
_SHOWN: Final = (
    "e.id, e.status, e.sender, e.recipients, e.cc, e.bcc, e.reply_to, e.subject, e.attachments, e.tags, e.scheduled_at,"
    " e.error, e.sent_at, e.created_at, e.contact_id IS NOT NULL AS audience, e.html IS NOT NULL AS has_html,"
    " coalesce((SELECT jsonb_agg(jsonb_build_object('event', v.kind, 'at', v.at, 'detail', v.detail,"
    " 'recipients', v.recipients) ORDER BY v.id) FROM email_events v"
    " WHERE v.project_id = e.project_id AND v.email_id = e.id), '[]') AS events"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail that is about to be written down, whole and checked. ``attachments``: file id, name, type and size."""

    id: UUID
    sender: str
    recipients: Sequence[str]
    cc: Sequence[str]
    bcc: Sequence[str]
    reply_to: Sequence[str]
    subject: str
    text: str
    html: str | None
    attachments: Sequence[Mapping[str, Any]]
    tags: Mapping[str, str]
    at: datetime | None
    contact_id: UUID | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller wants to send from. ``writable`` is ``None`` to who cannot see the project. ``sender`` and
    ``domains`` are those of the project's own account, if it has one."""

    writable: bool | None
    sender: str | None
    domains: Sequence[str]


@traced
async def place(connection: Connection, project_id: UUID) -> Place:
    """Who may send from a project, and as whom."""
    row = await connection.fetchrow(
        "SELECT readable_project() = $1 AS reads, writable_project() = $1 AS writes, a.sender, a.domains"
        " FROM (SELECT 1) one LEFT JOIN email_accounts a ON a.project_id = $1",
        project_id,
    )
    assert row is not None  # noqa: S101  one row, always
    return Place(bool(row["writes"]) if row["reads"] else None, row["sender"], row["domains"] or ())


@traced
async def add(connection: Connection, principal: Principal, project_id: UUID, draft: Draft) -> None:
    """Write a mail down and queue its delivery, now or at its time, all in the caller's transaction."""
    status = "queued" if draft.at is None else "scheduled"
    await connection.execute(
        "INSERT INTO emails (project_id, id, end_user_id, contact_id, status, sender, recipients, cc, bcc, reply_to,"
        " subject, text, html, attachments, tags, scheduled_at, created_by, credential_id, run_id)"
        " VALUES ($1, $2, acting_end_user(), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        *(project_id, draft.id, draft.contact_id, status, draft.sender),
        *(list(draft.recipients), list(draft.cc), list(draft.bcc), list(draft.reply_to)),
        *(draft.subject, draft.text, draft.html, list(draft.attachments), dict(draft.tags), draft.at),
        *(principal.user_id, principal.credential_id, principal.run_id),
    )
    await note(connection, draft.id, status)
    await jobs.enqueue(connection, DELIVER, {"email_id": draft.id}, at=draft.at)


@traced
async def note(
    connection: Connection, email_id: UUID, kind: str, detail: str | None = None, recipients: Sequence[str] = ()
) -> None:
    """Add an event to the mail's history."""
    await connection.execute(
        "INSERT INTO email_events (project_id, id, email_id, end_user_id, kind, detail, recipients)"
        " SELECT e.project_id, $2, e.id, e.end_user_id, $3, $4, $5 FROM emails e"
        " WHERE e.id = $1 AND e.project_id = (SELECT writable_project())",
        *(email_id, uuid7(), kind, detail, list(recipients)),
    )


@traced
async def read(connection: Connection, email_id: UUID) -> asyncpg.Record | None:
    """A mail with its text and its history."""
    return await connection.fetchrow(
        f"SELECT {_SHOWN}, e.text FROM emails e WHERE e.id = $1 AND e.{_HERE}",  # noqa: S608  fixed text
        email_id,
    )


@traced
async def page(connection: Connection, *, status: str | None, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` mails, newest first, older than ``before``."""
    return await connection.fetch(
        f"SELECT {_SHOWN} FROM emails e WHERE e.{_HERE} AND ($1::text IS NULL OR e.status = $1)"  # noqa: S608  fixed text
        " AND ($2::uuid IS NULL OR e.id < $2) ORDER BY e.id DESC LIMIT $3",
        *(status, before, limit),
    )


@traced
async def cancel(connection: Connection, email_id: UUID) -> bool:
    """Take a scheduled mail back. False: it is not one that waits for its time (any more)."""
    cancelled = await connection.fetchval(
        "UPDATE emails SET status = 'cancelled', updated_at = now() WHERE id = $1 AND status = 'scheduled'"
        " AND project_id = (SELECT writable_project()) RETURNING true",
        email_id,
    )
    if cancelled:
        await note(connection, email_id, "cancelled")
    return bool(cancelled)


@traced
async def status(connection: Connection, email_id: UUID) -> str | None:
    """How a mail stands; ``None`` without one that the caller can see."""
    found: str | None = await connection.fetchval(f"SELECT status FROM emails WHERE id = $1 AND {_HERE}", email_id)  # noqa: S608  fixed text
    return found


@traced
async def suppressed(connection: Connection, addresses: Sequence[str]) -> dict[str, str]:
    """Of these addresses, in small letters, those the project may not write to, and why."""
    rows = await connection.fetch(
        "SELECT address, reason FROM suppressed_among($1)",
        list(addresses),
    )
    return {row["address"]: row["reason"] for row in rows}


@traced
async def attachable(connection: Connection, file_ids: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
    """Of these files, those that are ready, held until the end of the transaction."""
    rows = await connection.fetch(
        f"SELECT id, path, size, content_type, temporary FROM files WHERE {_HERE} AND id = ANY($1)"  # noqa: S608  fixed text
        " AND status = 'ready' FOR SHARE",
        list(file_ids),
    )
    return {row["id"]: row for row in rows}
