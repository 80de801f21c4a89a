"""Answers leave in one write, and nothing is held back from a stream."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from server.http import bounded_heads
from server.http.bounded_heads import MOST_BYTES
from server.http.joining_transport import JoiningTransport
from server.http.one_write import OneWriteProtocol
from tests.prompt_server import PromptServer


class Written:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_a_head_goes_out_with_its_body_and_alone_when_none_comes() -> None:
    below = Written()
    transport = JoiningTransport(below, asyncio.get_running_loop())  # type: ignore[arg-type]  # the part that is used
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    transport.write(b"body")
    transport.write(b"more")
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert below.writes == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more", b"HTTP/1.1 100 Continue\r\n\r\n"]
    below.writes.clear()
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert below.writes == []
    await asyncio.sleep(0)
    assert below.writes == [b"HTTP/1.1 200 OK\r\n\r\n"]
    transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    transport.close()
    await asyncio.sleep(0)
    assert below.writes[1:] == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert below.closed


async def test_a_stream_that_is_silent_at_first_shows_its_head_and_two_requests_in_a_row_keep_their_order() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        if scope["path"] == "/slow":
            await go_on.wait()
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=OneWriteProtocol, ws="none", log_config=None, lifespan="off", port=0)
    server = PromptServer(config)
    running = asyncio.create_task(server.serve())
    await server.listening.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        go_on.set()
        assert await reader.readexactly(2) == b"ok"
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(2) == b"ok"
        writer.close()
        server.end()
        await running


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
FITS = b"x-a: " + b"a" * (MOST_BYTES - 1024) + b"\r\n"
LONG = b"x-a: " + b"a" * MOST_BYTES


CASES = (
    ((HEAD, FITS, b"\r\n"), b"200 "),
    ((HEAD + b"Content-Length: 200000\r\n\r\n", b"b" * 200_000), b"200 "),
    ((CHUNKED + b"0\r\n", b"x-t: t\r\n\r\n"), b"200 "),
    ((HEAD + LONG,), b"431 "),
    ((HEAD + LONG + b"\r\n\r\n",), b"431 "),
    ((HEAD, *(b"x-a: %b\r\n" % (b"a" * 1024) for _ in range(64))), b"431 "),
    ((b"GET /" + b"a" * MOST_BYTES,), b"431 "),
    ((HEAD + b"\r\n" + HEAD + LONG,), b"200 "),
    ((CHUNKED + b"0\r\n", *(LONG for _ in range(8))), b""),
)
"""What is sent, and the answer to it; none where the connection ends."""


async def test_a_head_has_at_most_64_kilobytes_and_so_have_trailers() -> None:
    """Whoever sends more is told so, and their connection ends; in the middle of an answer it only ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=OneWriteProtocol, ws="none", log_config=None, lifespan="off", port=0)
    server = PromptServer(config)
    running = asyncio.create_task(server.serve())
    await server.listening.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with asyncio.timeout(60):
        for parts, answer in CASES:
            line = await answered(port, parts)
            assert line.removeprefix(b"HTTP/1.1 ")[:4] == answer, parts[0][:80]
        server.end()
        await running


async def test_a_head_that_does_not_come_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a connection on which nothing is said. A request that is answered, and its connection, are left alone."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    monkeypatch.setattr(bounded_heads, "SECONDS", 0.4)
    config = uvicorn.Config(app, http=OneWriteProtocol, ws="none", log_config=None, lifespan="off", port=0)
    server = PromptServer(config)
    running = asyncio.create_task(server.serve())
    await server.listening.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    request = b"GET %b HTTP/1.1\r\nHost: x\r\n"
    async with asyncio.timeout(60):
        slow, asking = await asyncio.open_connection("127.0.0.1", port)
        asking.write(request % b"/slow" + b"\r\n")
        assert await answered(port, ()) == b""
        assert b" 408 " in await answered(port, (request % b"/",))
        # The second one on a connection, begun when the first one was answered.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request % b"/" + b"\r\n" + request % b"/")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\nok")
        assert b" 408 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        go_on.set()
        assert b" 200 " in await slow.readuntil(b"\r\n\r\nok")
        asking.close()
        server.end()
        await running


async def answered(port: int, parts: tuple[bytes, ...]) -> bytes:
    """The first line of the answer; nothing when the connection ends without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
    line = b""
    with contextlib.suppress(OSError):
        line = await reader.readline()
    writer.close()
    return line
