"""A mail as it leaves: the same one each time it is made of the same row.

What goes by SMTP is a MIME message (RFC 5322, 2045), what goes to Resend is their JSON. Both have the same Message-ID
or key for the same mail, which is what keeps a second attempt from being a second mail.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final
from uuid import UUID

from tools.mailboxes import Mailbox

TAG: Final = "innkeeper"
"""The tag that a provider's webhooks bring back: of which project and mail, or ``house``, an event is."""


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """``id``: of its row; ``project_id``: ``None`` for mail of the house. ``unsubscribe``: the address of RFC 8058."""

    id: UUID
    project_id: UUID | None
    sender: Mailbox
    to: Sequence[Mailbox]
    subject: str
    text: str
    html: str | None
    written_at: datetime
    cc: Sequence[Mailbox] = ()
    bcc: Sequence[Mailbox] = ()
    reply_to: Sequence[Mailbox] = ()
    attachments: Sequence[Attachment] = ()
    tags: dict[str, str] = field(default_factory=dict)
    unsubscribe: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key."""
        return f"innkeeper-{self.id}"

    @property
    def message_id(self) -> str:
        return f"<{self.id}@{self.sender.domain}>"

    @property
    def recipients(self) -> list[str]:
        """Every address it goes to, each once."""
        return list(dict.fromkeys(one.address for one in (*self.to, *self.cc, *self.bcc)))

    def resend(self) -> dict[str, Any]:
        """The body of ``POST /emails``."""
        body: dict[str, Any] = {
            "from": str(self.sender),
            "to": [str(one) for one in self.to],
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
            "cc": [str(one) for one in self.cc],
            "bcc": [str(one) for one in self.bcc],
            "reply_to": [str(one) for one in self.reply_to],
            "headers": self._headers(),
            "attachments": [
                {"filename": one.name, "content_type": one.content_type, "content": b64encode(one.data).decode()}
                for one in self.attachments
            ],
            "tags": [{"name": name, "value": value} for name, value in sorted(self._tagged().items())],
        }
        return {name: value for name, value in body.items() if value}

    def mime(self) -> EmailMessage:
        """The message of RFC 5322; blind copies are in the envelope alone."""
        message = EmailMessage(policy=SMTP)
        message["Message-ID"] = self.message_id
        message["Date"] = self.written_at
        message["From"] = _addresses([self.sender])
        for name, mailboxes in (("To", self.to), ("Cc", self.cc), ("Reply-To", self.reply_to)):
            if mailboxes:
                message[name] = _addresses(mailboxes)
        message["Subject"] = self.subject
        for name, value in self._headers().items():
            message[name] = value
        message.set_content(self.text)
        if self.html is not None:
            message.add_alternative(self.html, subtype="html")
        for one in self.attachments:
            main, _, sub = one.content_type.partition(";")[0].partition("/")
            message.add_attachment(one.data, maintype=main, subtype=sub or "octet-stream", filename=one.name)
        return message

    def _headers(self) -> dict[str, str]:
        if self.unsubscribe is None:
            return {}
        return {
            "List-Unsubscribe": f"<{self.unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }

    def _tagged(self) -> dict[str, str]:
        whose = "house" if self.project_id is None else str(self.project_id)
        return {**self.tags, TAG: f"{whose}_{self.id}"}


def _addresses(mailboxes: Sequence[Mailbox]) -> list[Address]:
    return [Address(display_name=one.name, addr_spec=one.address) for one in mailboxes]
