"""What a browser needs to let a page of an allowed origin call us (Fetch standard, CORS).

Only reached for origins the allow-list knows, and for what is public. Callers authenticate by bearer token and never
by cookie, so credentials are not allowed, and a page gains nothing that its own token does not give it.
"""

from __future__ import annotations

from starlette.types import Message, Scope, Send

EXPOSED = b"innkeeper-run-id, retry-after, www-authenticate, x-request-id, x-run-id, x-thread-id"
PREFLIGHT_SECONDS = b"600"


def is_preflight(scope: Scope) -> bool:
    """Whether this is a browser asking beforehand, not a request for ``OPTIONS``."""
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


async def answer_preflight(scope: Scope, send: Send, origin: bytes) -> None:
    """Allow what is asked for: the routes themselves decide what they answer, and to whom."""
    asked = {name: value for name, value in scope["headers"] if name.startswith(b"access-control-request-")}
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", asked[b"access-control-request-method"]),
        (b"access-control-max-age", PREFLIGHT_SECONDS),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    ]
    if wanted := asked.get(b"access-control-request-headers"):
        headers.append((b"access-control-allow-headers", wanted))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def shared_with(origin: bytes, send: Send) -> Send:
    """A ``send`` whose answers a page of ``origin`` may read."""
    return _sharing(send, [(b"access-control-allow-origin", origin), (b"vary", b"origin")])


def shared_with_all(send: Send) -> Send:
    """A ``send`` whose answers any page may read. They are the same for all, so that a cache may keep one for all."""
    return _sharing(send, [(b"access-control-allow-origin", b"*")])


def _sharing(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def sharing_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            shared = [*headers, (b"access-control-expose-headers", EXPOSED)]
            message = {**message, "headers": [*message.get("headers", ()), *shared]}
        await send(message)

    return sharing_send
