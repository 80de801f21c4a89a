"""Email: mails that a project sends. A mail is written down in the caller's transaction and delivered by a job.

Nothing is sent from here. What became of a mail is in its history, down to what the recipient's server said of it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from db import emails
from db.errors import AppError, conflict, needs_member, not_found
from db.scopes import Scope
from tools.contract import Call, Caller, ProjectId, tool
from tools.email_access import require_readable
from tools.email_drafts import Wish, drafted
from tools.email_templates import LONGEST_SUBJECT
from tools.mailboxes import Written, one_line
from tools.pages import DEFAULT_ROWS, Cursor, Limit, cut, from_cursor, part
from tools.preview import Preview
from tools.resources import resource
from tools.result import MOST_BYTES, NOTE_BYTES, USUAL_BYTES, MaxBytes
from tools.trust import Trusted, Untrusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from db.principal import Principal
    from tools.ports import Services

EMAIL_TEMPLATE: Final = "innkeeper://projects/{project_id}/emails/{email_id}"
EXCERPT: Final = 600
"""Characters of the text that a person is shown before it is sent."""
FENCES: Final = 900
"""What the marks around words of others add."""
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_RESERVED: Final = "innkeeper"
MOST_TAGS: Final = 10

# fmt: off
Status: TypeAlias = Literal[
    "scheduled", "queued", "sending", "sent", "delivered", "bounced", "complained", "kept", "failed", "unconfirmed",
    "cancelled",
]
Happened: TypeAlias = Literal[
    "scheduled", "queued", "deferred", "sent", "kept", "failed", "unconfirmed", "cancelled", "delivered", "delayed",
    "bounced", "complained", "opened", "clicked", "suppressed", "unsubscribed",
]
# fmt: on


def _subject(text: str) -> str:
    if len(text) > LONGEST_SUBJECT:
        raise ValueError(f"has {len(text)} characters, and at most {LONGEST_SUBJECT} are sent")
    return one_line(text).strip()


def _tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MOST_TAGS or not all(_TAG.fullmatch(text) for pair in tags.items() for text in pair):
        raise ValueError(f"must be at most {MOST_TAGS}, of letters, digits, _ and - alone")
    if any(name.startswith(_RESERVED) for name in tags):
        raise ValueError(f"must not begin with {_RESERVED}")
    return tags


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    return text


Mailboxes: TypeAlias = list[Written]
Copies: TypeAlias = Annotated[Mailboxes | None, Field(description="Like to.")]
Subject: TypeAlias = Annotated[str, AfterValidator(_subject)]
Body: TypeAlias = Annotated[str, AfterValidator(_no_nul)]
EmailId: TypeAlias = Annotated[UUID, Field(description="From list_emails.")]


class EmailState(BaseModel):
    id: UUID
    status: Status
    scheduled_at: datetime | None


class Step(BaseModel):
    """Something that happened to a mail. ``detail`` is what the provider or the other server said."""

    event: Happened
    at: datetime
    detail: Untrusted[str] | None
    recipients: Untrusted[list[str]]


class EmailSummary(EmailState):
    to: Untrusted[list[str]]
    subject: Untrusted[str]
    created_at: datetime
    events: list[Step]


class EmailPage(BaseModel):
    emails: list[EmailSummary]
    next_cursor: Trusted[str] | None = Field(default=None, description="Pass as cursor for more; absent at the end.")


class Attachment(BaseModel):
    file_id: UUID
    name: Untrusted[str]
    size: int


class Email(EmailSummary):
    sender: Untrusted[str]
    cc: Untrusted[list[str]]
    bcc: Untrusted[list[str]]
    reply_to: Untrusted[list[str]]
    audience: bool
    tags: Untrusted[dict[str, str]]
    attachments: list[Attachment]
    has_html: bool
    sent_at: datetime | None
    error: Untrusted[str] | None = Field(description="Why it was not sent.")
    text: Untrusted[str]
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when the text goes on.")


async def _sending(call: Call, project_id: UUID, **wish: Any) -> Preview:
    """What a person is asked: from whom to whom, with the words as they will be read."""
    async with call.transaction() as connection:
        draft = await drafted(call, connection, project_id, Wish(**wish))
    count = len(draft.recipients) + len(draft.cc) + len(draft.bcc)
    when = f"{draft.at:%Y-%m-%d %H:%M} UTC" if draft.at else "at once"
    shown = {
        "From": draft.sender,
        "To": ", ".join(draft.recipients),
        "Cc": ", ".join(draft.cc),
        "Bcc": ", ".join(draft.bcc),
        "Answers to": ", ".join(draft.reply_to),
        "Subject": draft.subject,
        "Message": draft.text if len(draft.text) <= EXCERPT else f"{draft.text[:EXCERPT]} …",
        "Attached": ", ".join(f"{one['name']} ({one['size']} bytes)" for one in draft.attachments),
    }
    return Preview(
        f"This sends an email to {count} recipient{'s' if count > 1 else ''}, {when}.",
        {label: text for label, text in shown.items() if text},
    )


@tool(
    Scope.email_write,
    read_only=False,
    destructive=False,
    idempotent=False,
    open_world=True,
    preview=_sending,
    target=("to", "cc", "bcc"),
)
async def send_email(
    call: Caller,
    project_id: ProjectId,
    to: Annotated[Mailboxes, Field(min_length=1, description="Each an address or 'Ada <ada@example.org>'.")],
    subject: Annotated[Subject | None, Field(description="One line.")] = None,
    text: Annotated[Body | None, Field(description="Plain.")] = None,
    html: Annotated[Body | None, Field(description="Without text, it is made of this.")] = None,
    template: Annotated[
        str | None, Field(description="notice (title, message), action (also button, url), or the project's own.")
    ] = None,
    variables: Annotated[dict[str, str] | None, Field(description="Of the template.")] = None,
    cc: Copies = None,
    bcc: Copies = None,
    reply_to: Copies = None,
    sender: Annotated[Written | None, Field(description="Else the project's.")] = None,
    attachments: Annotated[list[UUID] | None, Field(description="File ids.")] = None,
    at: Annotated[AwareDatetime | None, Field(description="If not now.")] = None,
    tags: Annotated[Annotated[dict[str, str], AfterValidator(_tags)] | None, Field(description="For you.")] = None,
    audience: Annotated[bool | None, Field(description="News to one contact, who can unsubscribe.")] = None,
) -> EmailState:
    """Send an email. At most 500 kB, 25 MB of attachments, 50 recipients."""
    wish = Wish(
        *(to, subject, text, html, template, variables, cc, bcc, reply_to, sender, attachments, at, tags, audience)
    )
    async with call.transaction() as connection:
        draft = await drafted(call, connection, project_id, wish)
        await emails.add(connection, call.principal, project_id, draft)
    return EmailState(id=draft.id, status="scheduled" if draft.at else "queued", scheduled_at=draft.at)


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False, link=EMAIL_TEMPLATE)
async def get_email(
    call: Caller, project_id: ProjectId, email_id: EmailId, cursor: Cursor = None, max_bytes: MaxBytes = USUAL_BYTES
) -> Email:
    """Read an email: its text, in parts, and delivery history."""
    async with call.transaction() as connection:
        row = await emails.read(connection, email_id)
        if row is None:
            await require_readable(connection, project_id)
            raise not_found("email")
    email = Email(**_shown(row, Email), text="")
    room = max_bytes - len(email.model_dump_json().encode()) - FENCES - NOTE_BYTES
    email.text, email.next_cursor = part(row["text"], cursor, max(room, NOTE_BYTES))
    return email


@tool(Scope.email_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def list_emails(
    call: Caller,
    project_id: ProjectId,
    status: Annotated[Status | None, Field(description="Only these.")] = None,
    limit: Limit = DEFAULT_ROWS,
    cursor: Cursor = None,
) -> EmailPage:
    """List emails with delivery history."""
    async with call.transaction() as connection:
        rows = await emails.page(connection, status=status, before=from_cursor(cursor), limit=limit + 1)
        if not rows:
            await require_readable(connection, project_id)
    shown, more = cut(rows, limit, lambda row: EmailSummary(**_shown(row, EmailSummary)))
    return EmailPage(emails=shown, next_cursor=more)


@tool(Scope.email_write, read_only=False, destructive=False, idempotent=True, open_world=False, link=EMAIL_TEMPLATE)
async def cancel_email(call: Caller, project_id: ProjectId, email_id: EmailId) -> EmailState:
    """Cancel a scheduled email."""
    async with call.transaction() as connection:
        place = await require_readable(connection, project_id)
        status = await emails.status(connection, email_id)
        if status is None:
            raise not_found("email")
        if not place.writable:
            raise needs_member()
        if status != "cancelled" and not await emails.cancel(connection, email_id):
            raise _too_late(status)
    return EmailState(id=email_id, status="cancelled", scheduled_at=None)


async def _ids(
    services: Services, caller: Principal, project_id: UUID, typed: str, limit: int, _known: Mapping[str, str]
) -> list[str]:
    """Of the latest mails, those whose id begins with what was typed."""
    async with services.database.transaction(caller, project_id) as connection:
        rows = await emails.page(connection, status=None, before=None, limit=limit)
    return [str(row["id"]) for row in rows if str(row["id"]).startswith(typed.lower())]


@resource(EMAIL_TEMPLATE, Scope.email_read, rest_from="get_email", completes={"email_id": _ids})
async def email(call: Caller, project_id: ProjectId, email_id: UUID) -> Email:
    """An email with its text and its delivery history."""
    found: Email = await get_email.function(call, project_id, email_id, max_bytes=MOST_BYTES)
    return found


def _shown(row: asyncpg.Record, model: type[BaseModel]) -> dict[str, Any]:
    """The columns of a row as the fields of a model."""
    columns = {"to": row["recipients"], **dict(row.items())}
    return {name: columns[name] for name in model.model_fields if name in columns and name != "text"}


def _too_late(status: str) -> AppError:
    return conflict(
        "email_not_scheduled",
        f"This email is {status}: only one that waits for its time can be taken back.",
        "get_email tells what became of it.",
        {"next_tool": "get_email"},
    )
