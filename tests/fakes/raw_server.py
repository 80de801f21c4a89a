"""An HTTP server whose every byte a test decides, on any address of this machine, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    line: str
    headers: dict[str, str]


Handler = Callable[[Asked, Send], Awaitable[None]]


@dataclass
class RawServer:
    """``connections`` counts sockets that were accepted, ``asked`` whole requests."""

    host: str
    port: int = 0
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str = "/", *, host: str | None = None, scheme: str = "http") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


def answer(body: bytes = b"{}", *, status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer; underscores in names of headers are hyphens."""
    fields = {"content_type": "application/json", "content_length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return f"HTTP/1.1 {status}\r\n".encode() + "\r\n".join([*lines, "", ""]).encode() + body


def always(data: bytes) -> Handler:
    async def handler(_asked: Asked, send: Send) -> None:
        await send(data)

    return handler


@asynccontextmanager
async def raw_server(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve until the end of the block. One request a connection: the handler's answer ends with it."""
    server = RawServer(host)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.create_task(talk(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = (line.partition(": ") for line in head[1:-2])
            asked = Asked(head[0], {name.lower(): value for name, _, value in fields})
            server.asked.append(asked)

            async def send(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            await handler(asked, send)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side had enough
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    listening = await asyncio.start_server(serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        try:
            yield server
        finally:
            for task in serving:
                task.cancel()
            if serving:
                await asyncio.wait(serving)
