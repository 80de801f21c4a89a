"""A transport that writes the head of an answer together with what follows it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

HEAD: Final = b"HTTP/1.1 "
CONTINUE: Final = b"HTTP/1.1 100 "


class JoiningTransport:
    """It holds a head back for at most one turn of the loop. Everything else is the transport's own."""

    __slots__ = ("_head", "_loop", "_transport", "_turn", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing
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
