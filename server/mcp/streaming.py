"""Answers to requests that take long: a JSON body when the work ends before it has said anything, else an event stream
(``text/event-stream``) with what it says on the way, a ping in long silences, and the reply as its last event.

Sources: MCP 2025-11-25 and 2026-07-28, "Streamable HTTP" and "Progress". There is no resumption: a stream that breaks
is over, a read is asked again, a write is repeated with its idempotency key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types import RequestId
from pydantic_core import to_json
from starlette.types import Receive, Send

from db.errors import AppError
from server.mcp.inbound import Answer, Inbound, RawHeaders, send_answer
from server.mcp.one_shot import OneShot

log = logging.getLogger("innkeeper.error")

Say: TypeAlias = Callable[[bytes], Awaitable[None]]
Work: TypeAlias = Callable[[Say], Awaitable[Answer]]

_working: set[asyncio.Task[None]] = set()
"""The event loop holds its tasks weakly; this keeps those whose client has left."""

PING_SECONDS = 15.0
"""How long a stream may be silent: proxies cut connections on which nothing passes, most of them after 30 to 60 s."""

LAST_WORDS_SECONDS = 2.0
"""What cancelled work gets to roll back."""

MAX_WAITING = 64
"""Events that wait for a slow reader before the work waits with them."""

STREAM_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Told(OneShot):
    """One request whose notifications and progress reach the client before its answer does."""

    def __init__(self, inbound: Inbound, message: Mapping[str, Any], say: Say) -> None:
        request_id: RequestId = message["id"]
        super().__init__(inbound, request_id)
        self._say = say
        self._token = progress_token_from_params(message.get("params"))
        self._done = float("-inf")

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await self._say(to_json({"jsonrpc": "2.0", "method": method, "params": params or {}}))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Only to clients that asked for it with a token, and only what is more than was said before."""
        if self._token is None or progress <= self._done:
            return
        self._done = progress
        said: dict[str, Any] = {"progressToken": self._token, "progress": progress}
        if total is not None:
            said["total"] = total
        if message is not None:
            said["message"] = message
        await self.notify("notifications/progress", said)


class EventStream:
    """The answer of one long request. ``work`` gets a function that says one JSON message and returns the reply.
    ``refuse`` makes the reply of an error.

    A client that goes away stops the work, unless ``goes_on``: then it is finished for whoever asks for it next.
    """

    def __init__(
        self, work: Work, *, refuse: Callable[[AppError], Answer], goes_on: bool, notes: dict[str, object]
    ) -> None:
        self._work = work
        self._refuse = refuse
        self._goes_on = goes_on
        self._notes = notes
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._gone = False
        self._done = False
        self._answer: Answer | None = None

    async def send(self, receive: Receive, send: Send) -> None:
        """Do the work and put its answer on the wire. Being cancelled counts as a client that goes away."""
        working = asyncio.create_task(self._run(), name="mcp-long-work")
        _working.add(working)
        working.add_done_callback(_working.discard)
        watching = asyncio.create_task(self._watch(receive), name="mcp-client-gone")
        try:
            await self._pump(send)
        finally:
            watching.cancel()
            self._leave()
            if not working.done():
                self._notes["left"] = "goes_on" if self._goes_on else "cancelled"
                if not self._goes_on:
                    working.cancel()

    async def say(self, message: bytes) -> None:
        """Put one JSON message on the stream; waits while the client reads slowly, drops it when nobody listens."""
        while len(self._waiting) >= MAX_WAITING and not (self._gone or self._done):
            self._room.clear()
            await self._room.wait()
        if not (self._gone or self._done):
            self._waiting.append(message)
            self._news.set()

    def end(self, error: AppError) -> None:
        """The client gets this error, and nothing else any more. What becomes of the work is as when it leaves."""
        self._waiting.clear()
        self._answer = self._refuse(error)
        self._notes["error"] = error.code
        self._done = True
        self._room.set()
        self._news.set()

    async def _run(self) -> None:
        try:
            answer = await self._work(self.say)
            if not self._done:
                self._answer = answer
        except Exception:
            # Handlers turn their own faults into replies. Without a reply the server closes the connection.
            log.exception("a long request crashed outside its handler")
        finally:
            self._done = True
            self._news.set()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._room.set()
        self._news.set()

    async def _pump(self, send: Send) -> None:
        started = False
        while await self._something_to_send() and not self._gone:
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                started = True
            message = self._waiting.popleft() if self._waiting else None
            self._room.set()
            await send({"type": "http.response.body", "body": event(message), "more_body": True})
        if self._answer is None or self._gone:
            return
        if started:
            await send({"type": "http.response.body", "body": event(self._answer.body), "more_body": False})
        else:
            await send_answer({}, send, self._answer)

    async def _something_to_send(self) -> bool:
        """Wait for a message, or for the silence that a ping must end; ``False`` at the end of either side."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                while not (self._waiting or self._done or self._gone):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return True
        return bool(self._waiting)


async def finish(seconds: float) -> None:
    """For the end of the process: let long work end by itself for so long, then cancel what is left of it. A cancelled
    write is rolled back, and repeated by whoever sends its idempotency key again."""
    if _working:
        await asyncio.wait(_working, timeout=seconds)
    for task in _working:
        task.cancel()
    if _working:
        await asyncio.wait(_working, timeout=LAST_WORDS_SECONDS)


def event(message: bytes | None) -> bytes:
    """One server-sent event; ``None`` is a comment that clients pass over. JSON of ours has no line breaks in it."""
    return b": ping\n\n" if message is None else b"event: message\ndata: " + message + b"\n\n"
