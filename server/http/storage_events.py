"""``POST /webhooks/storage``: what a bucket says of itself, from whoever holds the secret of the settings.

Proof is the secret as a bearer token (MinIO, EventBridge and most others can send one), or, for a secret that begins
with ``whsec_``, a Standard Webhooks signature over the very bytes, five minutes old at most. Taken are messages of S3
events (``Records``) and events of EventBridge. An event is a reason to look at the one file that it names, and nothing
of it is believed: so it may come twice, late or out of order.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_plus
from uuid import UUID

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from db import files
from db.errors import AppError, invalid
from db.jobs import enqueue_for
from db.storekeeping import ARRIVED, REMOVED
from server.http.problem import problem_response

if TYPE_CHECKING:
    from db.database import Database

PATH: Final = "/webhooks/storage"
SIGNED: Final = "whsec_"
MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class BucketEvents:
    """Which bucket's events are heard, and what proves them."""

    bucket: str
    secret: str = field(repr=False)


class EventServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def database(self) -> Database: ...

    @property
    def bucket_events(self) -> BucketEvents | None: ...


def routes(services: EventServices) -> list[BaseRoute]:
    """The route over ``services``; it is not there (404) unless a bucket and a secret are configured."""

    async def hear(request: Request) -> Response:
        try:
            heard = services.bucket_events
            if heard is None:
                raise AppError(
                    "route_not_found",
                    404,
                    "Events of a bucket are not heard.",
                    "Set AWS_S3_BUCKET and INNKEEPER_STORAGE_WEBHOOK_SECRET to have them heard.",
                )
            body = await request.body()
            _require_proof(heard.secret, request.headers, body)
            await _act(services.database, _events(body, heard.bucket))
        except AppError as error:
            return problem_response(error, [(b"www-authenticate", b"Bearer")] if error.status == 401 else [])
        return Response(status_code=204)

    return [Route(PATH, hear, methods=["POST"], name="storage-events")]


def _require_proof(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    if secret.startswith(SIGNED):
        try:
            Webhook(secret).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError):
            raise _unproven("Its Standard Webhooks signature does not fit its bytes, or is too old.") from None
        return
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), secret.encode()):
        raise _unproven("It does not carry the secret.")


def _events(body: bytes, bucket: str) -> set[tuple[str, UUID, UUID]]:
    """Kind of job, project and file for each event that matters. Raises ``AppError`` for what is no message of events.

    Events of other buckets, of keys that are not ours and of kinds that change nothing for us are passed over.
    """
    try:
        message = json.loads(body)
        found = list(_named(message))[: MOST + 1]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise invalid("This is no message of S3 events.", "Send what S3, MinIO or EventBridge send.") from None
    if len(found) > MOST:
        raise invalid(f"There are more than {MOST} events in one message.", "Send them in several.")
    events = set()
    for name, its_bucket, key in found:
        kind = ARRIVED if "ObjectCreated" in name else REMOVED
        ids = files.ids(key.removeprefix(files.INCOMING))
        if its_bucket == bucket and ids is not None and key.startswith(files.INCOMING) == (kind == ARRIVED):
            events.add((kind, *ids))
    return events


def _named(message: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, bucket and key of each event."""
    if "detail" in message:
        detail = message["detail"]
        name = str(message["detail-type"]).replace("Object Created", "ObjectCreated")
        yield name, str(detail["bucket"]["name"]), str(detail["object"]["key"])
        return
    # S3 sends "s3:TestEvent" without records when notifications are switched on.
    for record in message["Records"] if message.get("Event") != "s3:TestEvent" else ():
        s3 = record["s3"]
        yield str(record["eventName"]), str(s3["bucket"]["name"]), unquote_plus(str(s3["object"]["key"]))


async def _act(database: Database, events: set[tuple[str, UUID, UUID]]) -> None:
    if not events:
        return
    async with database.ops() as connection:
        for kind, project_id, file_id in sorted(events):
            await enqueue_for(connection, project_id, kind, {"file_id": file_id}, dedupe=str(file_id))


def _unproven(message: str) -> AppError:
    return AppError(
        "webhook_unproven", 401, message, "Configure the sender with the value of INNKEEPER_STORAGE_WEBHOOK_SECRET."
    )
