"""The jobs behind the mail of the house: delivering one, and making a new account a contact of the audience.

The house is no tenant, and its mail is read here as the ops role. It goes the way of :mod:`server.mail.delivery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from db import house_mails
from db.errors import AppError
from server.jobs.job import JobCall, RetryLater
from server.mail.attempt import OvertakenError, Verdict, attempt, kept_back
from server.mail.carrier import Carrier, DeferredError, RefusedError
from server.mail.house import UNASKED, opened, render
from server.mail.message import Message
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    import asyncpg

    from server.mail.post import Post


async def deliver_house_mail(job: JobCall) -> None:
    """Deliver the mail ``mail_id``, or say why not, or when it is tried again."""
    async with job.services.database.ops() as connection:
        row, suppressed = await house_mails.begin(connection, job.uuid("mail_id"))
    if row is None:
        return
    post = job.services.post
    verdict = _unwanted(row, suppressed) or kept_back(post.house, row["route"], row["handed_over_at"])
    if verdict is None and post.house is not None:
        delivery = _Delivery(job, row, post.house)
        try:
            verdict = await attempt(
                post.house, delivery.message, delivery.leaving, number=row["attempts"], before=row["route"] is not None
            )
        except OvertakenError:
            return
    if verdict is not None:
        await _settle(job, row, verdict)


async def join_audience(job: JobCall) -> None:
    """Make the account ``user_id`` a contact of the segment of new accounts, where Resend has one for us."""
    platform = job.services.post.platform
    if platform is None or platform.segment is None:
        return
    async with job.services.database.ops() as connection:
        found = await house_mails.candidate(connection, job.uuid("user_id"))
    if found is None:
        return
    try:
        await platform.join(*found)
    except DeferredError as error:
        raise RetryLater(error.after or 60.0, _not_joined(error)) from error
    except RefusedError as error:
        raise _not_joined(error) from error


def message_of(row: Mapping[str, Any], post: Post) -> Message:
    """The mail of a row, with what opens something in it, if that is still there."""
    unsubscribe = post.links.of_house(row["id"]) if row["kind"] in UNASKED else None
    made = render(
        row["kind"],
        row["variables"],
        name=row["name"],
        house_url=post.public_url,
        link=opened(post.keyring, row["secret"]) if row["secret"] is not None else "",
        expires_at=row["expires_at"],
        unsubscribe=unsubscribe,
    )
    return Message(
        id=row["id"],
        project_id=None,
        sender=post.sender,
        to=[Mailbox(row["address"], row["name"])],
        subject=made.subject,
        text=made.text,
        html=made.html,
        written_at=row["created_at"],
        unsubscribe=unsubscribe,
    )


class _Delivery:
    def __init__(self, job: JobCall, row: asyncpg.Record, carrier: Carrier) -> None:
        self._job = job
        self._row = row
        self._carrier = carrier

    async def message(self) -> Message:
        return message_of(dict(self._row.items()), self._job.services.post)

    async def leaving(self) -> None:
        async with self._job.services.database.ops() as connection:
            if not await house_mails.hand_over(connection, self._row["id"], self._row["attempts"], self._carrier.route):
                raise OvertakenError


def _unwanted(row: asyncpg.Record, suppressed: str | None) -> Verdict | None:
    if row["route"] is not None:
        return None
    if suppressed is not None:
        return Verdict("failed", f"the address is suppressed: {suppressed}", not_on_its_way=True)
    if row["expires_at"] is not None and row["expires_at"] <= datetime.now(UTC):
        return Verdict("failed", "what it opens had expired before it could be sent", not_on_its_way=True)
    return None


async def _settle(job: JobCall, row: asyncpg.Record, verdict: Verdict) -> None:
    async with job.services.database.ops() as connection:
        await house_mails.settle(
            connection,
            row["id"],
            row["attempts"],
            status=verdict.status,
            detail=verdict.detail,
            provider_id=verdict.provider_id,
            not_on_its_way=verdict.not_on_its_way,
            again=verdict.again,
        )


def _not_joined(error: Exception) -> AppError:
    return AppError(
        "audience_not_joined", 502, f"Resend did not take the contact: {error}", "Look at RESEND_SEGMENT_ID."
    )
