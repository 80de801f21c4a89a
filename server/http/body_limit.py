"""Bounds on request bodies that hold before they are buffered or read, declared length or not."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.json_values import MOST_VALUES, Values
from db.errors import AppError
from server.http.fields import fields_of
from server.http.problem import send_problem

MAX_BODY_BYTES = 4 * 1024 * 1024
UNCOUNTED = 64 * 1024
"""Bytes of a body that are read whatever they hold."""


class BodyTooLargeError(Exception):
    """Raised out of ``receive`` at the first chunk over a limit; :class:`BodyLimit` turns it into 413."""

    def __init__(self, error: AppError) -> None:
        super().__init__(error.message)
        self.error = error


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
        if int(declared) > UNCOUNTED:
            return self._count(scope, receive, send)
        # The HTTP parser lets no more through than what was declared.
        return self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        values = Values()
        started = False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                piece = message.get("body", b"")
                received += len(piece)
                if received > self.limit:
                    raise BodyTooLargeError(self._too_large())
                values.feed(piece)
                if values.count > MOST_VALUES:
                    raise BodyTooLargeError(_too_many())
            return message

        async def watching_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counting_receive, watching_send)
        except BodyTooLargeError as refused:
            if started:
                raise
            await send_problem(send, refused.error)

    def _too_large(self) -> AppError:
        return AppError(
            "body_too_large",
            413,
            f"The request body is over {self.limit} bytes.",
            "Send less at once; files go through the storage tools, not through a request body.",
            details={"max_bytes": self.limit},
        )


def _too_many() -> AppError:
    return AppError(
        "too_many_values",
        413,
        f"The request body holds over {MOST_VALUES} JSON values.",
        "Send fewer at once; files go through the storage tools, not through a request body.",
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
