"""Answers of models in bounded memory: whoever reads a stream by lines holds a whole line, however long it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx2

from agents.model_errors import too_much

LONGEST_LINE: Final = 4 << 20
"""One that holds a picture is long."""
MOST_COMMAS: Final = 200_000
"""Of a line, which the SDK reads in one go: it takes as long as there are values in it."""
UNPACKED: Final = "identity"
MOST_BYTES: Final = 64 << 20
"""Of a whole answer."""
MOST_LINES: Final = 1 << 20
"""Each costs the SDK some microseconds, however short it is: two for every token that a model may say."""
PIECE: Final = 4096
"""Bytes that the SDK gets at once: with a line in each of them it works on them for 40 ms, and lets nobody else."""


class Bounds:
    """What is left of what one answer may hold, whatever it says that it is. Of one that comes packed, which nobody
    asked for, nobody knows how much it holds."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._packed = headers.get("content-encoding", UNPACKED) != UNPACKED
        self._line = self._total = self._lines = self._commas = 0

    def check(self, part: bytes) -> None:
        """Raises AppError ``model_bad_response`` where it is more than any model says."""
        self._total += len(part)
        self._lines += part.count(b"\n") + part.count(b"\r")
        end = max(part.rfind(b"\n"), part.rfind(b"\r"))
        self._line = self._line + len(part) if end < 0 else len(part) - end - 1
        self._commas = part.count(b",", end + 1) + (self._commas if end < 0 else 0)
        if self._packed or self._line > LONGEST_LINE or self._total > MOST_BYTES or self._lines > MOST_LINES:
            raise too_much()
        if self._commas > MOST_COMMAS:
            raise too_much()


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    """The same, so that others get their turn between its pieces."""
    for at in range(0, len(data), PIECE):
        if at:
            await asyncio.sleep(0)
        yield data[at : at + PIECE]


async def bound(response: httpx2.Response) -> None:
    """A client's hook, before all others that read: cuts an answer off at its bounds."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream, Bounds(response.headers))


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
