"""A bound on request bodies that holds before they are buffered, declared length or not."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.errors import AppError
from server.http.fields import fields_of
from server.http.problem import send_problem

MAX_BODY_BYTES = 4 * 1024 * 1024


class BodyTooLargeError(Exception):
    """Raised out of ``receive`` at the first chunk over the limit; :class:`BodyLimit` turns it into 413."""


class BodyLimit:
    """ASGI middleware: 413 for a body over ``limit`` bytes, 415 for one in a content coding.

    A declared length is refused before the application runs. A chunked body is refused at the chunk that crosses the
    limit, whatever the application was doing, so at most ``limit`` bytes are ever held. We decode no content coding,
    so a compressed bomb never unfolds.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.limit = limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What is to be awaited; most requests need nothing here while they run."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return self.app(scope, receive, send)
        fields = fields_of(scope)
        declared = fields.get(b"content-length")
        if b"content-encoding" in fields and not _plain(scope):
            return send_problem(send, _encoded())
        if declared is None:
            return self._count(scope, receive, send)
        if not declared.isdigit() or len(declared) > 18 or int(declared) > self.limit:
            return send_problem(send, self._too_large())
        # The HTTP parser lets no more through than what was declared.
        return self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        started = False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.limit:
                    raise BodyTooLargeError
            return message

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counting_receive, watching_send)
        except BodyTooLargeError:
            if started:
                raise
            await send_problem(send, self._too_large())

    def _too_large(self) -> AppError:
        return AppError(
            "body_too_large",
            413,
            f"The request body is over {self.limit} bytes.",
            "Send less at once; files go through the storage tools, not through a request body.",
            details={"max_bytes": self.limit},
        )


def _plain(scope: Scope) -> bool:
    codings = [value.lower() for name, value in scope["headers"] if name == b"content-encoding"]
    return all(coding in (b"identity", b"") for coding in codings)


def _encoded() -> AppError:
    return AppError(
        "content_encoding_not_supported",
        415,
        "Request bodies are taken as they are: no Content-Encoding.",
        "Send the body uncompressed.",
    )
