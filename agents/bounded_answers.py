"""Answers of models in bounded memory: whoever reads a stream by lines holds a whole line, however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx2

from agents.model_errors import bad_response

LONGEST_LINE: Final = 16 << 20
"""Of a stream of events; one that holds a picture is long."""
MOST_BYTES: Final = 64 << 20
"""Of a whole answer."""


class Bounds:
    """What is left of what one answer may hold."""

    def __init__(self, longest_line: int) -> None:
        self._longest_line = longest_line
        self._line = self._total = 0

    @classmethod
    def of(cls, headers: httpx2.Headers) -> Bounds:
        events = headers.get("content-type", "").startswith("text/event-stream")
        return cls(LONGEST_LINE if events else MOST_BYTES)

    def check(self, part: bytes) -> None:
        """Raises AppError ``model_bad_response`` where it is more than any model says."""
        self._total += len(part)
        end = max(part.rfind(b"\n"), part.rfind(b"\r"))
        self._line = self._line + len(part) if end < 0 else len(part) - end - 1
        if self._line > self._longest_line or self._total > MOST_BYTES:
            raise bad_response()


async def bound(response: httpx2.Response) -> None:
    """A client's hook, before all others that read: cuts an answer off at its bounds."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream, Bounds.of(response.headers))


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._bounds.check(part)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
