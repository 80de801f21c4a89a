"""What comes in from outside about mail, on connections of the ops role: each call is one whole transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

HOUSE: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider tells of a mail. ``project_id``, ``email_id``: as the mail itself said, ``HOUSE`` for the
    house's; else ``None``, and ``provider_id`` finds it. ``suppress``: nobody may write to the recipients any more."""

    kind: str
    at: datetime
    provider_id: str | None
    project_id: UUID | None
    email_id: UUID | None
    recipients: Sequence[str]
    detail: str | None
    suppress: bool


@traced
async def webhook_secret(connection: Connection, project_id: UUID) -> bytes | None:
    """Of the project's own endpoint, sealed."""
    found: bytes | None = await connection.fetchval("SELECT email_webhook_secret($1)", project_id)
    return found


@traced
async def take(connection: Connection, source: str, message_id: str, told: Told, *, project_id: UUID | None) -> str:
    """Take a webhook in: ``taken``, ``repeated``, or ``unknown`` when it is about no mail of ours.

    ``project_id``: whose endpoint it came to, ``None`` for the house's.
    """
    outcome: str = await connection.fetchval(
        "SELECT take_email_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *(source, message_id, project_id, told.project_id, told.email_id, told.provider_id, uuid7(), told.kind),
        *(told.suppress, told.detail, list(told.recipients), told.at),
    )
    return outcome


@traced
async def audience_of(connection: Connection, project_id: UUID, contact_id: UUID) -> tuple[str, bool] | None:
    """Which project writes to a contact, and whether it still does; ``None`` when there is no such contact any more."""
    row = await connection.fetchrow("SELECT * FROM audience_of($1, $2)", project_id, contact_id)
    return None if row is None or row["project"] is None else (row["project"], row["subscribed"])


@traced
async def leave_audience(connection: Connection, project_id: UUID, contact_id: UUID, email_id: UUID) -> bool:
    """Ops. Unsubscribe a contact, who followed the link of one mail; false when there is no such contact any more."""
    left = await connection.fetchval(
        "SELECT leave_audience($1, $2, $3, $4)", *(project_id, contact_id, email_id, uuid7())
    )
    return bool(left)


@traced
async def leave_house_audience(connection: Connection, mail_id: UUID) -> bool:
    """Ops. The same of mails of the house; false when there is no such mail any more."""
    return bool(await connection.fetchval("SELECT leave_house_audience($1)", mail_id))
