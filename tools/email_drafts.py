"""From what a caller wants to send to a mail that can be sent: every rule that needs no provider is here.

The preview of an approval and the send itself go through the same checks, so nobody is asked about a mail that would be
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import contacts, email_templates, emails
from db.aside import aside
from db.errors import AppError, Repair, conflict, invalid, missing_scope, not_found
from db.ids import uuid7
from db.scopes import Scope
from tools.contract import Call
from tools.email_access import require_writable
from tools.email_templates import DESIGNS, UNSUBSCRIBE, Template, design
from tools.mailboxes import Mailbox
from tools.paths import file_name
from tools.plain_text import plain_text

if TYPE_CHECKING:
    from db.database import Connection
    from tools.ports import MailRules

GRACE: Final = timedelta(minutes=1)
"""How far in the past a time may be and still mean now: clocks differ."""
_WHY: Final = {"bounced": "mail to it bounced", "complained": "it complained about mail"}


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of ``send_email``, mailboxes in their one form."""

    to: Sequence[str]
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    template: str | None = None
    variables: Mapping[str, str] | None = None
    cc: Sequence[str] | None = None
    bcc: Sequence[str] | None = None
    reply_to: Sequence[str] | None = None
    sender: str | None = None
    attachments: Sequence[UUID] | None = None
    at: datetime | None = None
    tags: Mapping[str, str] | None = None
    audience: bool | None = None

    @property
    def recipients(self) -> dict[str, str]:
        """The argument that each recipient is at, by its key."""
        found: dict[str, str] = {}
        for name in ("to", "cc", "bcc"):
            for number, text in enumerate(getattr(self, name) or ()):
                found.setdefault(Mailbox.parse(text).key, f"{name}.{number}")
        return found


async def drafted(call: Call, connection: Connection, project_id: UUID, wish: Wish) -> emails.Draft:
    """The mail as it will be written down. Raises ``AppError`` for one that must not be."""
    rules = call.services.mail
    place = await require_writable(connection, project_id)
    sender = _sender(wish, place, rules)
    at = _time(wish.at, rules)
    if len(wish.recipients) > rules.recipients:
        raise _too_many("recipients", "to", len(wish.recipients), rules.recipients)
    await _require_not_suppressed(connection, wish)
    contact_id = await _contact(connection, wish) if wish.audience else None
    content = await _content(connection, wish, rules)
    attachments = await _attachments(call, connection, wish, rules)
    return emails.Draft(
        id=uuid7(),
        sender=sender,
        recipients=wish.to,
        cc=wish.cc or (),
        bcc=wish.bcc or (),
        reply_to=wish.reply_to or (),
        subject=content.subject,
        text=content.text or await _text_of(content.html or ""),
        html=content.html,
        attachments=attachments,
        tags=wish.tags or {},
        at=at,
        contact_id=contact_id,
    )


async def _text_of(html: str) -> str:
    return await aside(lambda: plain_text(html))


def _sender(wish: Wish, place: emails.Place, rules: MailRules) -> str:
    """Its own account's sender or domains, else the house's sender alone, under whatever name."""
    usual = Mailbox.written(place.sender or rules.sender)
    if wish.sender is None:
        return str(usual)
    chosen = Mailbox.parse(wish.sender)
    if chosen.key == usual.key or chosen.domain in place.domains:
        return str(chosen)
    allowed = ", ".join([usual.address, *(f"any address at {domain}" for domain in place.domains)])
    raise AppError(
        "sender_not_allowed",
        403,
        "This project may not send under that address.",
        f"Leave sender out, or use one of: {allowed}.",
        details={"arguments": [{"do": "drop", "at": "sender"}]},
    )


def _time(at: datetime | None, rules: MailRules) -> datetime | None:
    if at is None:
        return None
    now = datetime.now(UTC)
    if not now - GRACE <= at <= now + timedelta(days=rules.days_ahead):
        raise invalid(
            f"at must be a time of the next {rules.days_ahead} days.",
            f"It is {now:%Y-%m-%dT%H:%M:%SZ} now; leave at out to send at once.",
            details={"arguments": [{"do": "drop", "at": "at"}]},
        )
    return at if at > now else None


async def _require_not_suppressed(connection: Connection, wish: Wish) -> None:
    places = wish.recipients
    found = await emails.suppressed(connection, list(places))
    if not found:
        return
    said = "; ".join(f"{address} ({_WHY[reason]})" for address, reason in sorted(found.items()))
    at: dict[str, list[str]] = {}
    for address in found:
        name, _, number = places[address].partition(".")
        at.setdefault(name, []).append(getattr(wish, name)[int(number)])
    repairs: list[Repair] = [{"do": "change", "at": name, "without": texts} for name, texts in at.items()]
    raise conflict(
        "recipient_suppressed",
        f"This project may not write to {said}.",
        "Leave them out. A person who knows better lifts it with lift_suppression (connect with ?tools=contacts).",
        {"arguments": repairs},
    )


async def _contact(connection: Connection, wish: Wish) -> UUID:
    """The one contact that mail for an audience is to."""
    if len(wish.to) != 1 or wish.cc or wish.bcc:
        raise invalid(
            "Mail for an audience goes to one contact at a time: its link lets that one unsubscribe.",
            "Send one mail for each contact, without cc and bcc.",
            details={"arguments": [{"do": "change", "at": "to", "schema": {"maxItems": 1}}]},
        )
    row = await contacts.find(connection, Mailbox.parse(wish.to[0]).key)
    if row is None:
        raise not_found(
            "contact",
            "Add them with upsert_contact if they agreed to it (connect with ?tools=contacts), or leave audience out.",
            {"next_tool": "upsert_contact"},
        )
    if not row["subscribed"]:
        raise conflict(
            "contact_unsubscribed",
            "This contact has unsubscribed from mail for an audience.",
            "Do not send it. What they asked for themselves, such as a receipt, is sent without audience.",
        )
    contact_id: UUID = row["id"]
    return contact_id


async def _content(connection: Connection, wish: Wish, rules: MailRules) -> Template:
    content = await _filled(connection, wish) if wish.template is not None else _given(wish)
    size = sum(len((part or "").encode()) for part in (content.text, content.html))
    if size > rules.content_bytes:
        raise AppError(
            "email_too_large",
            413,
            f"Text and HTML have {size} bytes together; at most {rules.content_bytes} may be sent.",
            "Shorten it, or attach the long part as a file.",
            details={"max_bytes": rules.content_bytes},
        )
    if not wish.audience and any(UNSUBSCRIBE in (part or "") for part in (content.text, content.html)):
        raise invalid(
            f"{{{{ {UNSUBSCRIBE} }}}} has a meaning only in mail for an audience.", "Take it out, or set audience."
        )
    return content


def _given(wish: Wish) -> Template:
    if wish.variables:
        raise invalid("variables fill in a template, and none is named.", "Name a template, or leave variables out.")
    if not wish.subject or not (wish.text or wish.html):
        raise invalid(
            "A mail needs a subject, and text, html or a template.",
            "Give subject and text; html may come with it or alone.",
            details={"arguments": [{"do": "give", "at": "text" if wish.subject else "subject"}]},
        )
    return Template(wish.subject, wish.text, wish.html)


async def _filled(connection: Connection, wish: Wish) -> Template:
    if wish.text is not None or wish.html is not None:
        raise invalid(
            "A template brings its own text and html.",
            "Give either a template with variables, or text and html.",
            details={"arguments": [{"do": "drop", "at": name} for name in ("text", "html") if getattr(wish, name)]},
        )
    name = str(wish.template)
    row = await email_templates.find(connection, name)
    template = Template(row["subject"], row["text"], row["html"]) if row else design(name)
    if template is None:
        raise not_found(
            "template",
            f"There are {' and '.join(DESIGNS)} for every project; others are kept with save_template "
            "(connect with ?tools=templates).",
            {"next_tool": "list_templates"},
        )
    filled = template.filled(wish.variables or {})
    return Template(wish.subject, filled.text, filled.html) if wish.subject else filled


async def _attachments(call: Call, connection: Connection, wish: Wish, rules: MailRules) -> list[dict[str, Any]]:
    """What each file is called and how long it is. Its bytes are read at delivery, and pass through no model."""
    if not wish.attachments:
        return []
    if not call.principal.may(Scope.storage_read):
        raise missing_scope(Scope.storage_read)
    ids = list(dict.fromkeys(wish.attachments))
    if len(ids) > rules.attachments:
        raise _too_many("attachments", "attachments", len(ids), rules.attachments)
    found = await emails.attachable(connection, ids)
    if len(found) < len(ids):
        raise not_found("file", "Attach files that are ready, by the ids that list_files shows.")
    size = sum(row["size"] for row in found.values())
    if size > rules.attachment_bytes:
        raise AppError(
            "attachments_too_large",
            413,
            f"The attachments have {size} bytes together; at most {rules.attachment_bytes} may be sent.",
            "Attach fewer or smaller files, or send a link instead.",
            details={"max_bytes": rules.attachment_bytes},
        )
    return [
        {
            "file_id": str(one),
            "name": file_name(found[one]["path"]),
            "size": found[one]["size"],
            "content_type": found[one]["content_type"],
            "temporary": found[one]["temporary"],
        }
        for one in ids
    ]


def _too_many(what: str, at: str, given: int, most: int) -> AppError:
    return invalid(
        f"A mail may have {most} {what}, and this one has {given}.",
        "Send several mails.",
        "too_much_in_email",
        {"arguments": [{"do": "change", "at": at, "schema": {"maxItems": most}}]},
    )
