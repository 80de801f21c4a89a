"""The way to models that the operator names: HTTP/1.1 by aiohttp, whose parser is compiled, under the client that the
SDKs know. A request costs a third of what it does with httpx2's own transport, which is half of what a run's start
spends outside its agent.

Addresses of tenants go through the guarded client instead. Importing this imports aiohttp.
"""

from __future__ import annotations

import asyncio
import io
import select
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from agents.bounded_answers import Bounds, in_pieces
from agents.joined_deltas import fed
from agents.paced_stream import Pace, is_paced

if TYPE_CHECKING:
    import ssl

MOST_CONNECTIONS: Final = 1000
IDLE_SECONDS: Final = 5.0
"""A kept connection is used again within this time; servers close theirs after as long."""
LONGEST_HEADER: Final = 128 * 1024
MOST_HEADERS: Final = 500
AT_ONCE: Final = 1 << 20
"""Bytes of a request that are handed over as a whole; more are written piece by piece, as the other side takes them."""
CLOSED: Final = "The connection was closed in the middle of an answer"
OWN_HEADERS: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add. The request says it all."""


class ModelTransport(httpx2.AsyncBaseTransport):
    """Faults are raised as httpx2 names them. What an answer may hold is bounded, and streams of events are read as
    :mod:`agents.paced_stream` says."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        times = request.extensions.get("timeout") or {}
        connect, read, write, pool = (times.get(name) for name in ("connect", "read", "write", "pool"))
        body = await request.aread()
        with _as_httpx2():
            # aiohttp's own times do not run while a request is being written.
            async with asyncio.timeout(None if read is None or write is None else read + write + (pool or 0)):
                answer = await self._opened().request(
                    request.method,
                    _url(str(request.url)),
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                    data=body if len(body) <= AT_ONCE else io.BytesIO(body),
                    allow_redirects=False,
                    timeout=_timeout(connect, read, pool),
                )
        return httpx2.Response(answer.status, headers=list(answer.raw_headers), stream=_Body(answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        """One a process: it belongs to the event loop of the first request."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=MOST_CONNECTIONS, keepalive_timeout=IDLE_SECONDS, ssl=self._trust),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=OWN_HEADERS,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
            )
        return self._session


class _Protocol(ResponseHandler):
    """Where aiohttp would leave who reads an answer waiting for ever, or write to who has hung up."""

    def is_connected(self) -> bool:
        """Asked of a kept connection. What has something to read without a request is at its end."""
        return super().is_connected() and not _readable(self.transport)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError):
            _break_off(self._payload, str(exc))

    def close(self) -> None:
        payload = self._payload
        super().close()
        _break_off(payload, CLOSED)

    def abort(self) -> None:
        payload = self._payload
        super().abort()
        _break_off(payload, CLOSED)


def _break_off(payload: aiohttp.StreamReader | None, why: str) -> None:
    if payload is not None and not payload.is_eof() and payload.exception() is None:
        payload.set_exception(aiohttp.ClientPayloadError(why))


def _readable(transport: asyncio.BaseTransport | None) -> bool:
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None:
        return False
    if sys.platform == "win32":
        return bool(select.select([socket.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_protocol, loop=self._loop)


def _protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Protocol(loop)


class _Body(httpx2.AsyncByteStream):
    """What comes of an answer. Who reads on beside its first reader gets the rest."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._bounds = Bounds(answer.headers)
        self._pace = Pace() if is_paced(answer.status, answer.headers) else None
        self._resting: asyncio.Transport | None = None
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._pace is None:
            while data := await self._read():
                async for piece in in_pieces(data):
                    yield piece
            return
        with self._pace:
            while data := await self._read():
                joined = await fed(self._pace.joiner, data)
                rested = self._rest(self._pace.rest())
                async for piece in in_pieces(joined):
                    yield piece
                await rested
            if rest := self._pace.joiner.end():
                yield rest

    async def aclose(self) -> None:
        self._closed = True
        self._go_on()
        # What has not been read to its end makes the connection useless for others.
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()

    async def _read(self) -> bytes:
        if self._closed:
            return b""
        self._go_on()
        with _as_httpx2():
            try:
                data = await self._answer.content.readany()
            except aiohttp.ClientError:
                # What had come before the fault may be all that there is to say.
                data = self._answer.content._read_nowait(-1)  # noqa: SLF001
                if not data:
                    raise
        self._bounds.check(data)
        return data

    def _rest(self, seconds: float) -> asyncio.Future[None]:
        """Done in so many seconds, in which nothing is read: what came meanwhile would be all that the next read finds,
        and what the kernel has collected would wait for the one after it."""
        loop = asyncio.get_running_loop()
        rested = loop.create_future()
        # Not aiohttp's own pause: that one also has its parser give out one chunk at a time.
        transport = None if self._answer.connection is None else self._answer.connection.transport
        if not seconds or transport is None or transport.is_closing():
            rested.set_result(None)
        else:
            transport.pause_reading()
            self._resting = transport
            loop.call_later(seconds, _settle, rested)
        return rested

    def _go_on(self) -> None:
        transport, self._resting = self._resting, None
        if transport is not None and not transport.is_closing():
            transport.resume_reading()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    return URL(text, encoded=True)


@lru_cache(maxsize=256)
def _timeout(connect: float | None, read: float | None, pool: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=pool, sock_connect=connect, sock_read=read)


@contextmanager
def _as_httpx2() -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx2.ConnectTimeout(str(error)) from error
    except (aiohttp.SocketTimeoutError, TimeoutError) as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(str(error)) from error
    except aiohttp.ClientOSError as error:
        raise httpx2.ReadError(str(error)) from error
    except (aiohttp.InvalidURL, ValueError) as error:
        raise httpx2.UnsupportedProtocol(str(error)) from error
    except aiohttp.ClientError as error:
        raise httpx2.RemoteProtocolError(str(error)) from error
