"""From the row of a project's mail to what leaves: attachments read from the store, and a way to unsubscribe."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import files
from db.errors import AppError
from server.mail.carrier import DeferredError, RefusedError
from server.mail.message import Attachment, Message
from tools.email_templates import UNSUBSCRIBE, with_unsubscribe
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    import asyncpg

    from tools.store import Store

_ADDRESSED: Final = ("recipients", "cc", "bcc")
_FOOTER: Final = (
    '<p style="margin: 32px 0 0; font: 13px/1.5 system-ui, sans-serif; color: #767676;">'
    'You get this because you are a contact of its sender. <a href="{url}" style="color: inherit;">Unsubscribe</a></p>'
)


def compose(
    row: asyncpg.Record,
    attachments: list[Attachment],
    unsubscribe: str | None,
    without: Collection[str] = frozenset(),
) -> Message:
    """``without``: addresses, in small letters, that it must not go to. Raises ``RefusedError`` if none is left."""
    to, cc, bcc = ([one for one in map(Mailbox.written, row[name]) if one.key not in without] for name in _ADDRESSED)
    if not to:
        raise RefusedError("every recipient is suppressed: mail to them bounced, or they complained")
    text, html = row["text"], row["html"]
    if unsubscribe is not None:
        text, html = _with_link(text, html, unsubscribe)
    return Message(
        id=row["id"],
        project_id=row["project_id"],
        sender=Mailbox.written(row["sender"]),
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=[Mailbox.written(one) for one in row["reply_to"]],
        subject=row["subject"],
        text=text,
        html=html,
        written_at=row["created_at"],
        attachments=attachments,
        tags=row["tags"],
        unsubscribe=unsubscribe,
    )


async def read_attachments(store: Store, project_id: UUID, listed: list[dict[str, Any]]) -> list[Attachment]:
    """The bytes of the files. Raises the errors of a carrier: what is not there will not come back."""
    return [await _read(store, project_id, one) for one in listed]


async def _read(store: Store, project_id: UUID, one: dict[str, Any]) -> Attachment:
    key = files.key(project_id, UUID(one["file_id"]), temporary=one["temporary"])
    try:
        found = await store.head(key)
        data = await store.read(key, 0, one["size"]) if found is not None and one["size"] else b""
    except AppError as error:
        raise DeferredError(f"the attachment {one['name']} cannot be read: {error.message}") from error
    if found is None or len(data) != one["size"]:
        raise RefusedError(f"the attachment {one['name']} is not in the store any more")
    return Attachment(one["name"], one["content_type"], data)


def _with_link(text: str, html: str | None, url: str) -> tuple[str, str | None]:
    """The link where the mail has a place for it, else at its end."""
    there = with_unsubscribe(text, url)
    if there == text:
        there = f"{text.rstrip()}\n\n-- \nYou get this because you are a contact of its sender. Unsubscribe: {url}\n"
    if html is None:
        return there, None
    if UNSUBSCRIBE in html:
        return there, with_unsubscribe(html, escape(url))
    head, closing, tail = html.rpartition("</body>")
    footer = _FOOTER.format(url=escape(url))
    return there, f"{head}{footer}{closing}{tail}" if closing else f"{html}{footer}"
