"""Uvicorn's HTTP protocol with one system call an answer, not two: its head waits for the body that comes with it.

A write to a socket costs more than all we do with a common request. What follows a head at once goes out with it; a
head with nothing behind it (a stream that is silent at first) goes out in the next turn of the event loop. An answer
that comes whole (:data:`WHOLE`) needs no such turn, and its usual headers no second look.
"""

from __future__ import annotations

import asyncio
from functools import cached_property, partial
from typing import Any, Final, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from server.http.bounded_heads import BoundedHeadsProtocol
from server.http.fields import FIELDS_KEY, Fields
from server.http.heads import BODY_KEY, KnownHead, known_head
from server.http.joining_transport import JoiningTransport

WHOLE: Final = "innkeeper.whole"
"""A key of the scope, where the server takes whole answers in one message: a ``http.response.start`` that has the body
under this key, as long as its ``content-length`` says. No other message follows it. Header values are stripped then,
and :data:`FIELDS_KEY` is there."""
MOST_SPELLED: Final = 256
MOST_KNOWN: Final = 4
"""Heads that a connection knows again."""

_FORWARDED: Final = frozenset({b"x-forwarded-proto", b"x-forwarded-for"})
_PLAIN: Final = frozenset({b"x-request-id", b"content-length"})
"""Headers whose values the front door and the lanes make: nothing in them can end a line."""
_WHITE: Final = b" \t"


class _Lines(dict[tuple[bytes, bytes], bytes]):
    """Header lines by name and value; those that answers repeat are looked at and spelled once."""

    def __missing__(self, pair: tuple[bytes, bytes]) -> bytes:
        name, value = pair
        if name in _PLAIN:
            return b"%b: %b\r\n" % pair
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            raise RuntimeError("Invalid HTTP header.")
        line = b"%b: %b\r\n" % (name.lower(), value)
        if len(line) <= MOST_SPELLED and len(self) < MOST_SPELLED:
            self[pair] = line
        return line


_line: Final = _Lines().__getitem__


class _Pipeline(list[Any]):
    """Requests that wait for their turn. A list: there are nearly always none, and an empty deque takes
    six hundred bytes of every open connection."""

    def appendleft(self, one: Any) -> None:
        self.insert(0, one)


class _OneWaiter(asyncio.Event):
    """An event for one waiter: a list of it, not a deque."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]  # all that is asked of it a list can do too


class OneWriteProtocol(BoundedHeadsProtocol):
    """For ``uvicorn.Config(http=...)``.

    A connection has one timer for its idle times, which looks when it is due whether the connection is idle, not one
    made and cancelled for each request.
    """

    __slots__ = ("answers", "idle_since", "known")
    idle_since: float | None
    known: tuple[KnownHead, ...]

    def data_received(self, data: bytes) -> None:
        self.idle_since = None
        between = self._between()
        if between:
            for known in self.known:
                scope = known.match(data)
                if scope is not None:
                    self._take(scope, known.app)
                    return
        before = self.cycle
        super().data_received(data)
        if between and self.cycle is not before:
            self._remember(data)

    def _between(self) -> bool:
        """Whether the last request was read to its end and answered, and no byte of another one came."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return cast("Any", self.scope) is None
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _remember(self, data: bytes) -> None:
        """Know the head of the request again that ``data`` was, if it was the whole of one."""
        cycle = self.cycle
        if not cycle.more_body and cycle.keep_alive and cycle.scope is self.scope and not self.pipeline:
            head = known_head(data, cast("dict[str, Any]", cycle.scope), self.answers)
            if head is not None:
                self.known = (head, *self.known[: MOST_KNOWN - 1])

    def _take(self, scope: dict[str, Any], app: Any) -> None:
        """Begin to answer a request whose head is known."""
        self.scope = cast("Any", scope)
        self.headers = scope["headers"]
        self.cycle = cycle = KnownCycle(self, scope)
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.idle_since is None:
            return  # the end of the next answer begins anew
        left = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0.001:
            self._look_again_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Asked at each byte and each answer: only the end of the connection ends its timer."""
        if self.transport.is_closing():
            super()._unset_keepalive_if_required()

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn has it, without the white space around a value, of which the parser leaves some on."""
        name, value = name.lower(), value.strip(_WHITE)
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = WholeAnswerCycle
        if not cycle.message_event.is_set():
            cycle.message_event = _OneWaiter()
        fields = Fields(self.headers)
        scope = cast("dict[str, Any]", cycle.scope)
        scope[FIELDS_KEY] = fields
        scope[WHOLE] = True
        if type(app) is ProxyHeadersMiddleware and _FORWARDED.isdisjoint(fields):
            app = app.app  # there is nothing for it to do
        self.answers = app
        super()._start_asgi_task(cycle, app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))
        self.idle_since = None
        self.known = ()
        self.pipeline = cast("Any", _Pipeline())


class WholeAnswerCycle(RequestResponseCycle):
    """One request and its answer. A whole answer is written at once; every other one as uvicorn writes it."""

    async def send(self, message: Any) -> None:
        body = message.get(WHOLE)
        if body is None:
            await super().send(message)
        elif self.response_started or self.access_log or not self.keep_alive or self.scope["method"] == "HEAD":
            await super().send(message)
            await super().send({"type": "http.response.body", "body": body})
        else:
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            self.response_started = True
            self.waiting_for_100_continue = False
            if not self.disconnected:
                self._answer(message["status"], message["headers"], body)

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        lines = b"".join(map(_line, (*self.default_headers, *headers)))
        whole = b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body)
        cast("JoiningTransport", self.transport).write_whole(whole)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class KnownCycle(WholeAnswerCycle):
    """The same for a request that is there as a whole when its answer begins: nobody waits for its body."""

    task: asyncio.Task[None]

    def __init__(self, protocol: HttpToolsProtocol, scope: dict[str, Any]) -> None:
        self.whole: bytes = scope[BODY_KEY]
        self.tasks = protocol.tasks
        self.scope = cast("Any", scope)
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_logger = protocol.access_logger
        self.access_log = protocol.access_log
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete
        self.disconnected = self.more_body = self.waiting_for_100_continue = False
        self.response_started = self.response_complete = self.given = False
        self.keep_alive = True
        self.body = bytearray()
        self.chunked_encoding = None
        self.expected_content_length = 0

    @cached_property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]  # made for those who wait: few do
        return asyncio.Event()

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn has it, who says what is wrong when something is."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001  raised again, where uvicorn expects it
            await super().run_asgi(partial(_crash, error))
        else:
            if not self.response_complete and not self.disconnected:
                await super().run_asgi(_leave)
        finally:
            self.on_response = _ignore
            self.tasks.discard(self.task)

    async def receive(self) -> Any:
        if self.given:
            return await super().receive()
        self.given = True
        return {"type": "http.request", "body": self.whole, "more_body": False}


async def _crash(error: BaseException, *_asgi: object) -> None:
    raise error


async def _leave(*_asgi: object) -> None:
    """End without an answer."""


def _ignore() -> None:
    """Nothing follows."""
