"""``POST /webhooks/registry/{source}``: somebody says that a source has changed.

Signed with the source's secret: as GitHub does (``X-Hub-Signature-256``, over the raw bytes), or as Standard Webhooks
say (``webhook-id``, ``-timestamp``, ``-signature``; within five minutes, one of several signatures suffices). What the
body says does not matter: the source itself is looked at. A delivery that comes again is the sync it was at first.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final, Protocol
from uuid import UUID

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from db import jobs, registry_sync
from db.database import Database
from db.errors import AppError
from db.registry_sync import SECRET
from server.http.problem import problem_response
from server.keyring import Keyring
from server.vault import Vault
from tools.sync import JOB

LONGEST_ID: Final = 200


class WebhookServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def database(self) -> Database: ...

    @property
    def keyring(self) -> Keyring: ...


def routes(services: WebhookServices) -> list[BaseRoute]:
    """The route over ``services``."""

    async def receive(request: Request) -> Response:
        try:
            return await _received(services, request)
        except AppError as error:
            return problem_response(error)

    return [Route("/webhooks/registry/{source:uuid}", receive, methods=["POST"], name="registry-webhook")]


async def _received(services: WebhookServices, request: Request) -> Response:
    source_id: UUID = request.path_params["source"]
    body = await request.body()
    async with services.database.ops_statements() as connection:
        webhook = await registry_sync.webhook(connection, source_id)
    if webhook is None:
        raise _unsigned()
    secret = Vault(services.keyring).open(webhook.project_id, SECRET, webhook.secret, str(source_id))
    delivery = _verified(request, body, secret)
    if request.headers.get("x-github-event") == "ping":
        return JSONResponse({"pong": True})
    async with services.database.ops() as connection:
        requested = await registry_sync.request(connection, source_id, delivery)
        if requested is None:
            raise _unsigned()
        if requested.fresh:
            project_id = requested.project_id
            await jobs.enqueue_for(connection, project_id, JOB, {"source_id": source_id}, dedupe=str(source_id))
    answer = {"sync_id": str(requested.sync_id), "replayed": not requested.fresh}
    return JSONResponse(answer, status_code=202 if requested.fresh else 200)


def _verified(request: Request, body: bytes, secret: str) -> str:
    """What the sender calls this delivery, once its signature is found good. Raises ``AppError`` 401."""
    headers = request.headers
    if "webhook-signature" in headers:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):
            raise _unsigned() from None
        return f"standard:{headers['webhook-id'][:LONGEST_ID]}"
    sent = headers.get("x-hub-signature-256", "")
    expected = "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()
    if not hmac.compare_digest(sent.encode("latin-1", "replace"), expected.encode()):
        raise _unsigned()
    return f"hub:{headers.get('x-github-delivery', '')[:LONGEST_ID] or sha256(body).hexdigest()}"


def _unsigned() -> AppError:
    """The same for a source there is not, one without a secret, and a signature that is none of its secret's."""
    return AppError(
        "signature_invalid",
        401,
        "There is no such source, or this is not signed with its secret.",
        "Sign the raw body with the source's secret: X-Hub-Signature-256, or Standard Webhooks within five minutes.",
    )
