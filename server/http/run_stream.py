"""The events of one run as server-sent events, until its terminal one."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agents.agui import sse
from agents.engine import RunEngine
from agents.readers import RunHandle
from agents.wakeups import Events
from server.http.fields import fields_of
from server.limits.run_places import RunPlaces

KEEP_ALIVE_SECONDS: Final = 15.0
PORTION: Final = 256 * 1024
"""Bytes of events that are framed and sent in one go."""
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

    def framed(self, found: Events) -> bytes:
        """Events as they go over the wire."""
        return b"".join(sse(seq, event) for seq, event in found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the head, and leaves the rest to the front door."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            self._return_places()
            raise
        self.raw_headers = []
        fields_of(scope).afterwards = partial(self._stream, receive)

    async def _stream(self, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        with self._engine.readers.reading():
            here = asyncio.timeout(None)
            try:
                async with here:
                    leave = partial(_leave, here)
                    gone.add_done_callback(leave)
                    try:
                        await self._pump(send)
                    finally:
                        gone.remove_done_callback(leave)
            except TimeoutError:
                if not here.expired():
                    raise
                await self._engine.hung_up(self._handle)
            finally:
                gone.cancel()
                self._return_places()

    def doubt(self) -> None:
        """Who reads may have ended since they were known."""
        self._handle.tail.doubt()

    def _return_places(self) -> None:
        if self._lent:
            self._places.give_back()

    async def _pump(self, send: Send) -> None:
        tail = self._handle.tail
        more = not tail.over
        if not more:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        while more:
            # An error here cuts the stream: the client sees that the terminal event is missing and comes back.
            found = await tail.next(KEEP_ALIVE_SECONDS)
            more = not tail.over
            *earlier, last = _portions(found)
            for portion in earlier:
                await send({"type": "http.response.body", "body": self.framed(portion), "more_body": True})
                await asyncio.sleep(0)
            body = self.framed(last) or (KEEP_ALIVE if more else b"")
            await send({"type": "http.response.body", "body": body, "more_body": more})


def _portions(found: Events) -> list[Events]:
    """The same events in portions, between which others get their turn; one at least."""
    portions: list[Events] = [[]]
    size = 0
    for number, event in found:
        if size > PORTION:
            portions.append([])
            size = 0
        portions[-1].append((number, event))
        size += len(event)
    return portions


def _leave(here: asyncio.Timeout, _gone: asyncio.Task[None]) -> None:
    here.reschedule(asyncio.get_running_loop().time())


async def _disconnected(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
