"""``POST /webhooks/resend`` and ``/webhooks/resend/{project}``: what Resend tells of mail that was sent.

Verified on the raw bytes, then one call of the database, which takes each message in once. Nothing else happens here,
so that the answer is out before anybody thinks of sending it again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from db import email_webhooks
from db.email_accounts import SEALED
from db.email_webhooks import HOUSE, Told
from db.errors import invalid
from server.http.signed_webhook import verified
from server.mail.message import TAG
from tools.mailboxes import Mailbox

if TYPE_CHECKING:
    from db.database import Database
    from server.mail.post import Post

PATH: Final = "/webhooks/resend"
KINDS: Final = {
    "email.sent": "sent",
    "email.delivered": "delivered",
    "email.delivery_delayed": "delayed",
    "email.bounced": "bounced",
    "email.complained": "complained",
    "email.failed": "failed",
    "email.suppressed": "suppressed",
    "email.opened": "opened",
    "email.clicked": "clicked",
}
LONGEST_DETAIL: Final = 300
MOST_RECIPIENTS: Final = 100


def routes(database: Database, post: Post) -> list[BaseRoute]:
    async def of_house(request: Request) -> Response:
        message_id = verified(await request.body(), request.headers, post.webhook_secret)
        return await _take(database, request, "resend", message_id, None)

    async def of_project(request: Request) -> Response:
        project_id: UUID = request.path_params["project_id"]
        async with database.ops() as connection:
            sealed = await email_webhooks.webhook_secret(connection, project_id)
        secret = post.vault.open(project_id, SEALED, sealed, "webhook_secret") if sealed is not None else None
        message_id = verified(await request.body(), request.headers, secret)
        return await _take(database, request, f"resend/{project_id}", message_id, project_id)

    return [
        Route(PATH, of_house, methods=["POST"]),
        Route(f"{PATH}/{{project_id:uuid}}", of_project, methods=["POST"]),
    ]


async def _take(
    database: Database, request: Request, source: str, message_id: str, project_id: UUID | None
) -> Response:
    told = _told(await request.body())
    outcome = "ignored"
    if told is not None:
        async with database.ops() as connection:
            outcome = await email_webhooks.take(connection, source, message_id, told, project_id=project_id)
    return JSONResponse({"outcome": outcome})


def _told(body: bytes) -> Told | None:
    """What an event says of a mail; ``None`` for events about something else."""
    try:
        event = from_json(body)
        kind = KINDS.get(event["type"])
        data = event["data"] if kind is not None else {}
        if kind is None:
            return None
        project_id, email_id = _whose(data.get("tags"))
        return Told(
            kind=kind,
            at=_moment(event.get("created_at")),
            provider_id=_text(data.get("email_id")),
            project_id=project_id,
            email_id=email_id,
            recipients=[_address(one) for one in data.get("to", ())[:MOST_RECIPIENTS]],
            detail=_detail(kind, data),
            suppress=kind == "complained" or (kind == "bounced" and _for_good(data)),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise invalid("This is not an event of Resend.", "Send what Resend sends.", "webhook_malformed") from None


def _whose(tags: Any) -> tuple[UUID | None, UUID | None]:
    """The project and the mail that the mail itself was tagged with; tags come as an object or as a list of pairs."""
    if isinstance(tags, list):
        tags = {one["name"]: one["value"] for one in tags}
    said = (tags or {}).get(TAG)
    if not isinstance(said, str):
        return None, None
    project, _, email = said.partition("_")
    try:
        return HOUSE if project == "house" else UUID(project), UUID(email)
    except ValueError:
        return None, None  # somebody else's tag


def _for_good(data: dict[str, Any]) -> bool:
    """Whether a bounce means that the address does not work; Resend says ``Permanent``, and leaves out of such events
    what it tries again itself."""
    return str((data.get("bounce") or {}).get("type", "Permanent")).lower() == "permanent"


def _detail(kind: str, data: dict[str, Any]) -> str | None:
    """The words of the other server, in one line."""
    if kind == "failed":
        return _text((data.get("failed") or {}).get("reason"))
    if kind in ("bounced", "suppressed"):
        about = data.get("bounce" if kind == "bounced" else "suppressed") or {}
        parts = [about.get("type"), about.get("subType"), about.get("message")]
        return _text(": ".join(str(one) for one in parts if one))
    return None


def _text(value: Any) -> str | None:
    text = " ".join(value.split())[:LONGEST_DETAIL] if isinstance(value, str) else ""
    return text.replace("\x00", "") or None


def _address(text: str) -> str:
    try:
        return Mailbox.parse(text).key
    except ValueError:
        return text.lower()


def _moment(text: Any) -> datetime:
    """When it happened; now, if the event does not say it as one of ours would be said."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return datetime.now(UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
