"""Reads a model's stream a few times a second instead of once a token, and joins what came meanwhile.

The first pieces are read as they come, so that nobody waits for the first word. Then the socket is left alone for a
moment before each read, and the kernel collects: one wake-up, one pass through the HTTP parser and one event of the SDK
stand for many tokens. As soon as something else than a further piece comes, the next read waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx2

from agents.bounded_answers import Bounds, in_pieces
from agents.joined_deltas import Joiner, fed

AT_ONCE: Final = 2
"""Reads at the beginning of a stream that wait for nothing."""
PAUSE: Final = 0.05
LONG_PAUSE: Final = 0.1
MANY: Final = 48
"""Streams of a process beyond which the long pause is made."""
MOST_HELD: Final = 256 * 1024


def paced(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The client, whose streams of events are read as this module says."""
    hooks = client.event_hooks
    if _pace not in hooks["response"]:
        client.event_hooks = {**hooks, "response": [*hooks["response"], _pace]}
    return client


async def _pace(response: httpx2.Response) -> None:
    stream = response.stream
    if is_paced(response.status_code, response.headers) and isinstance(stream, httpx2.AsyncByteStream):
        bounds = Bounds(response.headers)
        response.stream = PacedStream(stream, bounds, response.extensions.get("network_stream"))


def is_paced(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a stream of events whose bytes can be read as they are."""
    streams = headers.get("content-type", "").startswith("text/event-stream")
    return streams and status == 200 and "content-encoding" not in headers


class Pace:
    """When one stream is to be read again. A context for as long as it is read."""

    open = 0
    """How many of them are being read in this process."""

    def __init__(self) -> None:
        self.joiner = Joiner()
        self._reads = 0

    def __enter__(self) -> None:
        Pace.open += 1

    def __exit__(self, *_: object) -> None:
        Pace.open -= 1

    def rest(self) -> float:
        """Seconds to leave the socket alone before the next read, which is counted."""
        self._reads += 1
        if self._reads <= AT_ONCE or not self.joiner.flowing:
            return 0.0
        return PAUSE if Pace.open <= MANY else LONG_PAUSE


class PacedStream(httpx2.AsyncByteStream):
    """``network``: the connection's stream, as httpcore gives it with a response."""

    def __init__(self, stream: httpx2.AsyncByteStream, bounds: Bounds, network: Any) -> None:
        self._stream = stream
        self._bounds = bounds
        self._network = network
        self._pace = Pace()
        self._held: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._pump: asyncio.Task[None] | None = None
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._pump is not None:
            # The SDK reads what comes after the last event while its first reader is still open: there is one pump.
            async for joined in self._following(self._pump):
                yield joined
            return
        if self._over:
            return
        self._pump = pump = asyncio.create_task(self._read(), name="model-stream")
        self._slow_down()
        try:
            with self._pace:
                async for joined in self._following(pump):
                    yield joined
        finally:
            self._over = True
            await self._stop()

    async def _following(self, pump: asyncio.Task[None]) -> AsyncIterator[bytes]:
        while not pump.done() or self._held:
            await self._news.wait()
            taken = self._taken()
            self._bounds.check(taken)
            async for piece in in_pieces(await fed(self._pace.joiner, taken)):
                yield piece
        if rest := self._pace.joiner.end():
            yield rest
        pump.result()

    async def aclose(self) -> None:
        await self._stop()
        await self._stream.aclose()

    async def _read(self) -> None:
        try:
            async for data in self._stream:
                self._held.append(data)
                self._size += len(data)
                self._news.set()
                if self._size > MOST_HELD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._news.set()

    def _taken(self) -> bytes:
        self._news.clear()
        taken, self._held, self._size = b"".join(self._held), [], 0
        self._room.set()
        if self._pump is not None and self._pump.done():
            self._news.set()
        return taken

    def _slow_down(self) -> None:
        """Stand before the reads of the connection, which belongs to this response until its end."""
        network = self._network
        if network is None:
            return
        read = network.read

        async def paced(max_bytes: int, timeout: float | None = None) -> bytes:
            if seconds := self._pace.rest():
                await asyncio.sleep(seconds)
            return bytes(await read(max_bytes, timeout))

        vars(network)["read"] = paced

    async def _stop(self) -> None:
        if self._network is not None:
            vars(self._network).pop("read", None)
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
            if not pump.cancelled():
                pump.exception()
