"""Heads of requests end somewhere: httptools gathers them without a bound, and nobody has said yet who they are."""

from __future__ import annotations

from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from db.errors import AppError
from server.http.problem import problem_body, problem_headers

MOST_BYTES: Final = 64 * 1024
"""What uvicorn's other protocol takes (``h11_max_incomplete_event_size``)."""
END: Final = b"\r\n\r\n"
TOO_LONG: Final = AppError(
    "head_too_long",
    431,
    f"The head of a request has at most {MOST_BYTES:,} bytes.",
    "Send fewer and shorter headers, and long content in the body.",
)


class BoundedHeadsProtocol(HttpToolsProtocol):
    """Uvicorn's, with a bound on what comes before a body and behind it (trailers; RFC 9112, 7.1.2).

    ``unread``: bytes that came since there was last something of a request to hand on.
    """

    unread: int = 0

    def data_received(self, data: bytes) -> None:
        if len(data) > MOST_BYTES and not self._takes_body() and data.find(END, 0, MOST_BYTES) < 0:
            self._refuse()
            return
        self.unread += len(data)
        super().data_received(data)
        if self.unread > MOST_BYTES:
            self._refuse()

    def on_headers_complete(self) -> None:
        self.unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.unread = 0
        super().on_body(body)

    def _takes_body(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.scope is self.scope and cycle.more_body

    def _refuse(self) -> None:
        """In the middle of an answer nothing else can be said."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if not self.transport.is_closing() and (cycle is None or cycle.response_complete):
            body = problem_body(TOO_LONG)
            headers = [*problem_headers(TOO_LONG, body), (b"connection", b"close")]
            lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[TOO_LONG.status], lines, body))
        self.transport.close()
