"""The job that delivers one mail of a project: never twice, and never without a word of what became of it.

Written down before anything leaves is by which route it does; written down after it, with the end of the job, what came
of it. A worker that dies in between leaves the mail ``sending``. The next one sends it again only by the same route,
and only for as long as that route knows the mail again; else it says that nobody knows (``unconfirmed``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from db import email_accounts, email_delivery, emails
from db.errors import AppError
from server.jobs.job import JobCall
from server.mail.attempt import OvertakenError, Verdict, attempt, kept_back, put_off
from server.mail.carrier import Carrier, DeferredError
from server.mail.composing import compose, read_attachments
from server.mail.message import Message
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


async def deliver_email(job: JobCall) -> None:
    """Deliver the mail ``email_id``, or say why not, or when it is tried again."""
    email_id = job.uuid("email_id")
    async with job.transaction() as connection:
        row = await email_delivery.begin(connection, email_id)
        if row is None:
            await job.finish(connection)
            return
        key = await email_accounts.sealed_key(connection)
        withheld = await _withheld(connection, row)
        verdict = await _unwanted(connection, row)
    verdict = verdict or await _attempt(job, row, key, withheld)
    if verdict is not None:
        await _settle(job, row, verdict)


async def _attempt(
    job: JobCall, row: asyncpg.Record, sealed_key: bytes | None, withheld: frozenset[str]
) -> Verdict | None:
    """``None``: another attempt has begun, which will say."""
    try:
        carrier = job.services.post.carrier_of(row["project_id"], sealed_key)
    except AppError as error:
        closed = DeferredError(f"the project's account cannot be used: {error.message}")
        return put_off(closed, _number(row), perhaps=row["route"] is not None)
    verdict = kept_back(carrier, row["route"], row["handed_over_at"])
    if verdict is not None or carrier is None:
        return verdict
    delivery = _Delivery(job, row, carrier, withheld)
    try:
        return await attempt(
            carrier, delivery.message, delivery.leaving, number=_number(row), before=row["route"] is not None
        )
    except OvertakenError:
        return None


def _number(row: asyncpg.Record) -> int:
    return int(row["attempts"] - row["attempts_before"])


class _Delivery:
    """What an attempt at one mail asks for on its way."""

    def __init__(self, job: JobCall, row: asyncpg.Record, carrier: Carrier, withheld: frozenset[str]) -> None:
        self._job = job
        self._row = row
        self._carrier = carrier
        self._withheld = withheld

    async def message(self) -> Message:
        row, services = self._row, self._job.services
        attachments = await read_attachments(services.dispatch.services.store, row["project_id"], row["attachments"])
        link = None
        if row["contact_id"] is not None:
            link = services.post.links.of_contact(row["project_id"], row["contact_id"], row["id"])
        return compose(row, attachments, link, self._withheld)

    async def leaving(self) -> None:
        async with self._job.transaction() as connection:
            email_id, attempt_number = self._row["id"], self._row["attempts"]
            if not await email_delivery.hand_over(
                connection, email_id, attempt_number, self._carrier.route, sorted(self._withheld)
            ):
                raise OvertakenError


async def _withheld(connection: Connection, row: asyncpg.Record) -> frozenset[str]:
    """Whom it must not go to any more. Not asked again for one that may have left: it has to stay the same mail."""
    if row["route"] is not None:
        return frozenset(row["withheld"])
    addresses = [Mailbox.written(one).key for name in ("recipients", "cc", "bcc") for one in row[name]]
    return frozenset(await emails.suppressed(connection, addresses))


async def _unwanted(connection: Connection, row: asyncpg.Record) -> Verdict | None:
    contact_id: UUID | None = row["contact_id"]
    if contact_id is None or row["route"] is not None or await email_delivery.subscribed(connection, contact_id):
        return None
    return Verdict("failed", "the contact has unsubscribed since", not_on_its_way=True)


async def _settle(job: JobCall, row: asyncpg.Record, verdict: Verdict) -> None:
    async with job.transaction() as connection:
        if verdict.ending == "sent":
            await email_delivery.sent(connection, row["id"], verdict.provider_id, verdict.refused)
        else:
            await email_delivery.settle(
                connection,
                row["id"],
                row["attempts"],
                status=verdict.status,
                event=verdict.ending,
                detail=verdict.detail,
                not_on_its_way=verdict.not_on_its_way,
                again=verdict.again,
            )
        await job.finish(connection)
