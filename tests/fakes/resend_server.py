"""Resend on a real socket, as far as we use it: mails with idempotency keys that are kept to, contacts, segments,
domains, and webhooks signed as theirs are.

A mail counts when it was accepted, whatever became of the answer::

    async with resend() as server:
        server.answer(429, "rate_limit_exceeded", {"retry-after": "3"})   # the next request, and then as ever
        ...
        assert [mail["subject"] for mail in server.mails] == ["Hello"]
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

from standardwebhooks import Webhook
from starlette.types import Receive, Scope, Send

from tests.fakes.sockets import on_socket

KEY = "re_a_key_that_only_tests_have"
SECRET = "whsec_" + base64.b64encode(b"a webhook secret of the tests").decode()


@dataclass(frozen=True)
class Asked:
    """One request. ``key``: its idempotency key; ``bearer``: whose account it was for."""

    method: str
    path: str
    bearer: str
    key: str
    body: Any


@dataclass
class Instead:
    """What the next request gets instead of its answer. ``accepted``: the mail was taken all the same."""

    status: int
    name: str = "application_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: bool = False
    silent: bool = False


class ResendServer:
    """``keys``: the accounts there are. ``mails``: those that were accepted, each once for its key."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = {KEY}
        self.requests: list[Asked] = []
        self.mails: list[dict[str, Any]] = []
        self.contacts: dict[str, dict[str, Any]] = {}
        self.segments: dict[str, set[str]] = {}
        self.verified: dict[str, list[str]] = {}
        self.arrived = asyncio.Event()
        self._instead: deque[Instead] = deque()
        self._kept: dict[tuple[str, str], tuple[str, str]] = {}

    def answer(
        self,
        status: int,
        name: str = "application_error",
        headers: Mapping[str, str] | None = None,
        *,
        accepted: bool = False,
    ) -> None:
        self._instead.append(Instead(status, name, headers or {}, accepted))

    def hang_up(self, *, accepted: bool) -> None:
        """The next request gets no answer at all."""
        self._instead.append(Instead(0, accepted=accepted, silent=True))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # whoever asked died in the middle of it, and asked for nothing
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        asked = Asked(
            scope["method"],
            scope["path"],
            headers.get("authorization", "").removeprefix("Bearer "),
            headers.get("idempotency-key", ""),
            json.loads(body) if body else None,
        )
        self.requests.append(asked)
        instead = self._instead.popleft() if self._instead else None
        if instead is not None:
            if instead.accepted:
                self._answer(asked)
            self.arrived.set()
            if instead.silent:
                raise ConnectionResetError("the test wants no answer")
            await _send(send, instead.status, {"name": instead.name, "message": "as the test says"}, instead.headers)
            return
        status, found = self._answer(asked)
        self.arrived.set()
        await _send(send, status, found)

    def _answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        if asked.bearer not in self.keys:
            return 403, {"name": "invalid_api_key", "message": "API key is invalid"}
        parts = asked.path.strip("/").split("/")
        match asked.method, parts:
            case "POST", ["emails"]:
                return self._accept(asked)
            case "POST", ["contacts"]:
                known = asked.body["email"] in self.contacts
                self.contacts.setdefault(asked.body["email"], asked.body)
                if known:
                    return 409, {"name": "conflict", "message": "Contact already exists"}
                return 201, {"object": "contact", "id": str(uuid4())}
            case "POST", ["contacts", email, "segments", segment]:
                self.segments.setdefault(segment, set()).add(email)
                return 200, {"id": segment}
            case "GET", ["domains"]:
                listed = [{"name": one, "status": "verified"} for one in self.verified.get(asked.bearer, [])]
                return 200, {"object": "list", "data": [*listed, {"name": "pending.example", "status": "pending"}]}
        return 404, {"name": "not_found", "message": "The requested endpoint does not exist"}

    def _accept(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        if not asked.key:
            raise AssertionError("a mail came without an idempotency key")
        digest = sha256(json.dumps(asked.body, sort_keys=True).encode()).hexdigest()
        kept = self._kept.get((asked.bearer, asked.key))
        if kept is not None and kept[0] != digest:
            return 409, {"name": "invalid_idempotent_request", "message": "Same key, other payload"}
        if kept is None:
            kept = (digest, str(uuid4()))
            self._kept[(asked.bearer, asked.key)] = kept
            self.mails.append({**asked.body, "id": kept[1], "key": asked.key, "account": asked.bearer})
        return 200, {"id": kept[1]}


def event(kind: str, mail: Mapping[str, Any], **data: Any) -> bytes:
    """The body of a webhook about an accepted mail."""
    tags = {tag["name"]: tag["value"] for tag in mail.get("tags", ())}
    to = [one.rpartition("<")[2].rstrip(">") for one in mail["to"]]
    about = {"email_id": mail["id"], "to": to, "from": mail["from"], "subject": mail["subject"], "tags": tags}
    moment = datetime.now(UTC).isoformat()
    return json.dumps({"type": kind, "created_at": moment, "data": {**about, **data}}).encode()


def signed(
    body: bytes,
    *,
    secret: str = SECRET,
    message_id: str = "msg_1",
    at: datetime | None = None,
    prefix: str = "svix-",
) -> dict[str, str]:
    """The headers that go with a webhook."""
    at = at or datetime.now(UTC)
    return {
        f"{prefix}id": message_id,
        f"{prefix}timestamp": str(int(at.timestamp())),
        f"{prefix}signature": Webhook(secret).sign(message_id, at, body.decode()),
        "content-type": "application/json",
    }


@asynccontextmanager
async def resend() -> AsyncIterator[ResendServer]:
    server = ResendServer()
    async with on_socket(server) as url:
        server.url = url
        yield server


async def _send(send: Send, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
    fields = [(b"content-type", b"application/json")]
    fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
