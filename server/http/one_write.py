"""Uvicorn's HTTP protocol with one system call an answer, not two: its head waits for the body that comes with it.

A write to a socket costs more than all we do with a common request. What follows a head at once goes out with it; a
head with nothing behind it (a stream that is silent at first) goes out in the next turn of the event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = b"HTTP/1.1 "
CONTINUE = b"HTTP/1.1 100 "


class OneWriteProtocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=...)``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))


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

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
