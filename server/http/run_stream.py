"""The events of one run as server-sent events, until its terminal one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agents.agui import sse
from agents.engine import RunEngine
from agents.readers import RunHandle
from server.limits.run_places import RunPlaces

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


VISIBLE: Final = "!#$&'()*+,/:;=?@[]^`{|}~"
"""What stays as it is in a client's name that goes into a header field; the rest is percent-encoded."""


class RunStream(Response):
    """The events of one run until its terminal one. A reader that goes away is all the engine hears of it.

    The run that was started here holds its ``places`` until it ends, whoever still reads it; one that lives elsewhere
    lends them to its reader.
    """

    def __init__(self, engine: RunEngine, handle: RunHandle, places: RunPlaces) -> None:
        super().__init__(status_code=200)
        self.raw_headers = [
            *HEADERS,
            (b"innkeeper-run-id", str(handle.run_id).encode()),
            (b"x-thread-id", quote(handle.thread, safe=VISIBLE).encode()),
            (b"x-run-id", quote(handle.name, safe=VISIBLE).encode()),
        ]
        self._engine = engine
        self._handle = handle
        self._places = places
        self._lent = handle.attached or not engine.when_ended(handle.run_id, places.give_back)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pumping = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        with self._engine.readers.reading():
            try:
                await asyncio.wait([pumping, gone], return_when=asyncio.FIRST_COMPLETED)
                if pumping.done():
                    await pumping
                else:
                    await self._engine.hung_up(self._handle)
            finally:
                for task in (pumping, gone):
                    task.cancel()
                if self._lent:
                    self._places.give_back()
                await asyncio.wait([pumping, gone])

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        tail = self._handle.tail
        while not tail.over:
            # An error here cuts the stream: the client sees that the terminal event is missing and comes back.
            found = await tail.next(KEEP_ALIVE_SECONDS)
            if found or not tail.over:
                body = b"".join(sse(seq, event) for seq, event in found) or KEEP_ALIVE
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
