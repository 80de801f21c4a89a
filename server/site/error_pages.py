"""Errors of the whole house as pages, where a browser asked for one (RFC 9110, 12.5.1: ``Accept``).

Everything behind answers with problem details (RFC 9457). A person who typed an address, or whose form was too large,
is shown the same words as a page; programs get the document.
"""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.problem import MEDIA_TYPE
from server.site.rendering import HEADERS, error_body

_REPLACED = frozenset({b"content-type", b"content-length"} | {name.encode() for name in HEADERS})
WORDS = {
    HTTPStatus.NOT_FOUND: ("There is no such page.", "Look at the address, or begin at your projects."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("This page cannot be opened this way.", "Begin at your projects."),
}
"""In the place of what is said to programs."""


class ErrorPages:
    """ASGI middleware; put it outside everything that answers with problem details."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What is to be awaited; most requests need nothing here while they run."""
        if scope["type"] == "http" and _wants_a_page(scope):
            send = _rendering(send)
        return self.app(scope, receive, send)


def _rendering(send: Send) -> Send:
    held: Message | None = None
    body = b""

    async def rendered(message: Message) -> None:
        nonlocal held, body
        if message["type"] == "http.response.start" and _is_problem(message):
            held = message
        elif held is None:
            await send(message)
        else:
            body += message.get("body", b"")
            if not message.get("more_body", False):
                await _send_page(send, held, body)

    return rendered


def _wants_a_page(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _is_problem(message: Message) -> bool:
    return (b"content-type", MEDIA_TYPE.encode()) in message.get("headers", ())


async def _send_page(send: Send, start: Message, body: bytes) -> None:
    problem = from_json(body)
    said = WORDS.get(start["status"], (problem["detail"], problem.get("hint", "")))
    page = error_body(*said)
    headers = [pair for pair in start["headers"] if pair[0] not in _REPLACED]
    headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers += [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(page)).encode())]
    await send({"type": "http.response.start", "status": start["status"], "headers": headers})
    await send({"type": "http.response.body", "body": page})
