"""Uvicorn's HTTP protocol with one system call an answer, not two: its head waits for the body that comes with it.

A write to a socket costs more than all we do with a common request. What follows a head at once goes out with it; a
head with nothing behind it (a stream that is silent at first) goes out in the next turn of the event loop. An answer
that says of itself that it is whole (:data:`WHOLE`) needs no such turn, and its usual headers no second look.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 "
WHOLE: Final = "innkeeper.whole"
"""A key of ``http.response.start``: the very next message is the whole body, as long as ``content-length`` says, and
nothing is waited for in between. Servers that do not know it ignore it."""
MOST_SPELLED: Final = 256

_FORWARDED: Final = frozenset({b"x-forwarded-proto", b"x-forwarded-for"})
_PLAIN: Final = frozenset({b"x-request-id", b"content-length"})
"""Headers whose values the front door and the lanes make: nothing in them can end a line."""
_spelled: dict[tuple[bytes, bytes], bytes] = {}
"""Header lines that were found in order, by name and value: those that answers repeat."""


class OneWriteProtocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=...)``."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = WholeAnswerCycle
        if type(app) is ProxyHeadersMiddleware and _FORWARDED.isdisjoint([name for name, _ in cycle.scope["headers"]]):
            app = app.app  # there is nothing for it to do
        super()._start_asgi_task(cycle, app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))


class WholeAnswerCycle(RequestResponseCycle):
    """One request and its answer. A whole answer is written at once; every other one as uvicorn writes it."""

    held: bytes | None = None

    async def send(self, message: Any) -> None:
        head = self.held
        if head is not None:
            self.held = None
            if not self.disconnected:
                self._end(head, message["body"])
        elif (
            WHOLE not in message
            or self.response_started
            or self.access_log
            or not self.keep_alive
            or self.scope["method"] == "HEAD"
        ):
            await super().send(message)
        else:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            self.held = self._head(message["status"], message["headers"])
            self.response_started = True
            self.waiting_for_100_continue = False

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [_spelled.get(pair) or _line(pair) for pair in (*self.default_headers, *headers)]
        return b"%b%b\r\n" % (STATUS_LINE[status], b"".join(lines))

    def _end(self, head: bytes, body: bytes) -> None:
        cast("JoiningTransport", self.transport).write_whole(head + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _line(pair: tuple[bytes, bytes]) -> bytes:
    name, value = pair
    if name in _PLAIN:
        return b"%b: %b\r\n" % pair
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError("Invalid HTTP header.")
    line = b"%b: %b\r\n" % (name.lower(), value)
    if len(line) <= MOST_SPELLED and len(_spelled) < MOST_SPELLED:
        _spelled[pair] = line
    return line


class JoiningTransport:
    """A transport that holds a head back for at most one turn of the loop. Everything else is the transport's own."""

    __slots__ = ("_head", "_loop", "_transport", "_turn")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._turn: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            if self._turn is not None:
                self._turn.cancel()
            self._transport.write(head + data)
        elif data.startswith(HEAD) and not data.startswith(CONTINUE):
            self._head = data
            self._turn = self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Write a head with its body."""
        if self._head:
            self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
