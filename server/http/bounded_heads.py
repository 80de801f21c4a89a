"""Heads of requests end somewhere, and some time: the parser gathers them without a bound, and waits for ever, and
nobody has said yet who they are."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from db.errors import AppError
from server.http.problem import problem_body, problem_headers

MOST_BYTES: Final = 64 * 1024
"""What uvicorn's other protocol takes (``h11_max_incomplete_event_size``)."""
END: Final = b"\r\n\r\n"
SECONDS = 30.0
"""How long a head may take to come, and a new connection to say anything."""
TOO_LONG: Final = AppError(
    "head_too_long",
    431,
    f"The head of a request has at most {MOST_BYTES:,} bytes.",
    "Send fewer and shorter headers, and long content in the body.",
)
TOO_SLOW: Final = AppError(
    "head_too_slow",
    408,
    "The head of the request did not come in time.",
    "Send it at once.",
    retryable=True,
)


class BoundedHeadsProtocol(HttpToolsProtocol):
    """Uvicorn's, with a bound on what comes before a body and behind it (trailers; RFC 9112, 7.1.2).

    ``unread``: bytes that came since there was last something of a request to hand on. ``due``: looks whether the head
    that has begun has come.
    """

    # Beside uvicorn's thirty attributes, over which a dictionary of them costs each connection a kilobyte.
    __slots__ = ("due", "unread")
    unread: int
    due: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.unread = 0
        self.due = self.loop.call_later(SECONDS, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.due is not None:
            self.due.cancel()

    def data_received(self, data: bytes) -> None:
        if len(data) > MOST_BYTES and not self._takes_body() and data.find(END, 0, MOST_BYTES) < 0:
            self._refuse(TOO_LONG)
            return
        self.unread += len(data)
        super().data_received(data)
        if self.unread > MOST_BYTES:
            self._refuse(TOO_LONG)
        elif self.due is None and self._takes_head():
            self.due = self.loop.call_later(SECONDS, self._look, self.scope)

    def on_headers_complete(self) -> None:
        self.unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def _takes_body(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.scope is self.scope and cycle.more_body

    def _takes_head(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cast("Any", self.scope) is not None and (cycle is None or cycle.scope is not self.scope)

    def _look(self, scope: object) -> None:
        """``scope``: of the request whose head had begun, ``None`` for that of a new connection."""
        self.due = None
        if self._takes_head() and scope in (None, self.scope):
            self._refuse(TOO_SLOW)
        elif scope is None and cast("Any", self.scope) is None:
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        """In the middle of an answer nothing else can be said."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if not self.transport.is_closing() and (cycle is None or cycle.response_complete):
            body = problem_body(error)
            headers = [*problem_headers(error, body), (b"connection", b"close")]
            lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[error.status], lines, body))
        self.transport.close()
