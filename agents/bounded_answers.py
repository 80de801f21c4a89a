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


async def bound(response: httpx2.Response) -> None:
    """A client's hook, before all others that read: cuts an answer off where it is more than any model says. Reading it
    raises AppError ``model_bad_response`` there."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        events = response.headers.get("content-type", "").startswith("text/event-stream")
        response.stream = _Bounded(response.stream, LONGEST_LINE if events else MOST_BYTES)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, longest_line: int) -> None:
        self._stream = stream
        self._longest_line = longest_line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = total = 0
        async for part in self._stream:
            total += len(part)
            end = max(part.rfind(b"\n"), part.rfind(b"\r"))
            line = line + len(part) if end < 0 else len(part) - end - 1
            if line > self._longest_line or total > MOST_BYTES:
                raise bad_response()
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
