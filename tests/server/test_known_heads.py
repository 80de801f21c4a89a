"""A head that comes again is not parsed again: whatever follows on the connection, the answers are the parser's."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.http.heads import BODY_KEY
from server.http.one_write import OneWriteProtocol

PLAIN = {"host": "localhost", "Authorization": "Bearer x", "Content-Type": "application/json"}
BODIES = (b"", b"{}", b"x" * 9, b"x" * 10, b"x" * 300, b"\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n")
BREAKS = (
    ("Length: ", "Length:  "), ("Length: ", "Length: 0"), ("Length: ", "Length: +"), ("LENGTH", "LENGTH "),
    ("Content-Length: ", "Content-Length: 9\r\nContent-Length: "), ("Content-Length", "Content-Lengt"),
    ("POST", "PUT"), ("POST / ", "POST /?a=%20b "), ("HTTP/1.1", "HTTP/1.0"), ("\r\n", "\n"), ("\r\n\r\n", "\n\n"),
    ("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"), ("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
    ("Content-Length: LENGTH", "Transfer-Encoding: chunked\r\nContent-Length: LENGTH"), ("POST", "\r\nPOST"),
    ("\r\n\r\n", "\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"), (": ", ":"), ("x", "\x00"),
    ("\r\n", "\r\n folded\r\n"), ("POST", " POST"),
)  # fmt: skip


async def shown(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    headers = [[name.decode(), value.strip(b" \t").decode("latin-1")] for name, value in scope["headers"]]
    told = [scope[name] for name in ("method", "path", "http_version", "scheme", "client", "server")]
    answer = json.dumps([*told, scope["query_string"].decode(), headers, body.decode("latin-1")]).encode()
    length = (b"content-length", b"%d" % len(answer))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": answer})


class Wire(asyncio.Transport):
    """What was written. Closed, it hears of nothing any more."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Everything is there already."""

    def resume_reading(self) -> None:
        """Everything is there already."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)}.get(name, default)


async def settled() -> None:
    """Nothing here takes more turns of the loop than this."""
    for _ in range(20):
        await asyncio.sleep(0)


async def spoken(kind: type[HttpToolsProtocol], app: Any, pieces: list[bytes]) -> tuple[bytes, bool]:
    """What a server answers to ``pieces``, and whether it hangs up. An empty one waits for what came before."""
    config = uvicorn.Config(app, http=kind, ws="none", log_config=None, lifespan="off", proxy_headers=False)
    config.load()
    state, wire = ServerState(), Wire()
    protocol = kind(config=config, server_state=state, app_state={})
    protocol.connection_made(wire)
    for piece in pieces:
        if not piece:
            await settled()
        elif not wire.closed:
            protocol.data_received(piece)
    await settled()
    protocol.connection_lost(None)
    await settled()
    if protocol.timeout_keep_alive_task is not None:
        protocol.timeout_keep_alive_task.cancel()
    return wire.written, wire.closed


def head(chance: random.Random) -> str:
    """A head with a place for the length, as clients send it or broken."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in PLAIN.items())
    made = f"POST / HTTP/1.1\r\n{lines}Content-Length: LENGTH\r\nMcp-Name: {chance.choice('abcdef')}\r\n\r\n"
    return made if chance.random() < 0.5 else made.replace(*chance.choice(BREAKS), 1)


def conversation(chance: random.Random) -> list[bytes]:
    """Requests of one client under a few heads: some in pieces, some cut off, some several in one, and after some of
    them it waits for no answer (an empty piece is a wait)."""
    heads = [head(chance) for _ in range(chance.randint(1, 3))]
    pieces: list[bytes] = []
    for _ in range(chance.randint(3, 9)):
        body = chance.choice(BODIES)
        one = chance.choice(heads).replace("LENGTH", str(len(body))).encode() + body
        how = chance.random()
        if how < 0.2:
            cut = chance.choice((1, 20, 60, len(one) - 1))
            pieces += [[one[:cut], one[cut:]], [one[:cut]], [one[cut:]]][min(int(how * 15), 2)]
        elif how < 0.3 and pieces:
            pieces[-1] += one
        else:
            pieces.append(one)
        if chance.random() < 0.8:
            pieces.append(b"")
    return pieces


async def test_whatever_follows_on_a_connection_gets_the_answers_of_the_parser() -> None:
    chance = random.Random(20261125)
    one = b"POST / HTTP/1.1\r\nhost: x\r\nContent-Length: 2\r\n\r\n{}"
    for pieces in ([one[:3], one[3:], b"", one[3:]], *(conversation(chance) for _ in range(500))):
        assert await spoken(OneWriteProtocol, shown, pieces) == await spoken(HttpToolsProtocol, shown, pieces), pieces


async def test_a_head_is_known_again_with_any_length_and_among_some_others() -> None:
    seen: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get(BODY_KEY))
        await shown(scope, receive, send)

    def of(name: str, body: bytes) -> bytes:
        return f"POST / HTTP/1.1\r\nhost: x\r\nmcp-name: {name}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    first = [of(name, b"first") for name in "abcd"]
    again = [of(name, b"x" * length) for name in "abcd" for length in (1, 1000)]
    await spoken(OneWriteProtocol, app, [piece for one in first + again for piece in (one, b"")])
    assert seen == [None] * 4 + [b"x", b"x" * 1000] * 4


@pytest.mark.parametrize("how", ["raises", "leaves", "stops halfway"])
async def test_an_application_that_breaks_gets_the_answer_of_the_parser(how: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["body"] == b"fine":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if how == "stops halfway":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        elif how == "raises":
            raise RuntimeError

    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
    pieces = [head + b"fine", b"", head + b"fine", b"", head + b"evil"]
    ours = await spoken(OneWriteProtocol, app, pieces)
    assert ours == await spoken(HttpToolsProtocol, app, pieces)
    assert ours[1]


async def test_who_waits_for_the_end_of_a_known_request_hears_of_it() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope.get(BODY_KEY) is None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            heard.append((await receive())["type"])

    config = uvicorn.Config(app, http=OneWriteProtocol, ws="none", log_config=None, lifespan="off")
    config.load()
    state, wire = ServerState(), Wire()
    protocol = OneWriteProtocol(config=config, server_state=state, app_state={})
    protocol.connection_made(wire)
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
    protocol.data_received(one)
    await settled()
    protocol.data_received(one)
    await asyncio.sleep(0)
    assert not heard
    protocol.connection_lost(None)
    await settled()
    assert heard == ["http.disconnect"]
