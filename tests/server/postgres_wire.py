"""A wire between a server and its PostgreSQL that a test can hold: it swallows what the database says of a COMMIT."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, quote, urlsplit


class Wire:
    """The answer to a COMMIT that follows ``armed_by`` does not reach the server; ``committed`` is set when it came."""

    def __init__(self, url: str) -> None:
        self._upstream = urlsplit(url)
        self.committed = asyncio.Event()
        self.armed_by: bytes | None = None
        self.url = url

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_database, to_database = await self._dial()
        armed = held = False

        async def ask() -> None:
            nonlocal armed, held
            while data := await reader.read(65536):
                armed = armed or (self.armed_by is not None and self.armed_by in data)
                held = held or (armed and b"COMMIT\x00" in data)
                to_database.write(data)
                await to_database.drain()

        async def answer() -> None:
            while data := await from_database.read(65536):
                if held:
                    self.committed.set()
                else:
                    writer.write(data)
                    await writer.drain()

        tasks = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, to_database):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options = parse_qs(self._upstream.query)
        socket, port = options.get("host", [""])[0], options.get("port", ["5432"])[0]
        if socket.startswith("/"):
            return await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._upstream.hostname, self._upstream.port or 5432)


@contextlib.asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A wire to the database of ``url``; its own ``url`` goes through it."""
    held = Wire(url)
    server = await asyncio.start_server(held.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    credentials = f"{quote(parts.username or '', safe='')}:{quote(parts.password or '', safe='%')}"
    held.url = f"postgresql://{credentials}@127.0.0.1:{port}{parts.path}?sslmode=disable"
    try:
        yield held
    finally:
        server.close()
