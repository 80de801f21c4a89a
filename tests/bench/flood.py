"""Many connections of one tenant that together send so many requests a second, for tests of fairness.

    python -m tests.bench.flood HOST PORT TOKEN --connections 50 --rate 500

Prints a line ``limited`` at the first 429, goes on until SIGTERM, and prints a JSON object with the number of answers
of each status. A connection that is late does not catch up: the load never exceeds its rate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

HEADERS = b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"


def request_of(token: str, method: str, params: dict[str, object]) -> bytes:
    """A whole POST to ``/mcp``, handshake era."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    head = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %b\r\n" % token.encode()
    return head + HEADERS + b"content-length: %d\r\n\r\n" % len(body) + body


@dataclass
class Connection:
    """One kept-alive connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split(" ", 2)[1]), headers, body


@contextlib.asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[Connection]:
    """An open connection."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


@dataclass
class Flood:
    """What came back."""

    answers: Counter[int] = field(default_factory=Counter)

    async def send(self, host: str, port: int, request: bytes, every: float) -> None:
        """Send ``request`` again and again, ``every`` so many seconds on average, not in step with the others."""
        clock = asyncio.get_running_loop().time
        async with connected(host, port) as connection:
            due = clock() + every * random.random()
            while True:
                await asyncio.sleep(max(0.0, due - clock()))
                due = max(due, clock() - every) + every * random.uniform(0.5, 1.5)
                status, _headers, _body = await connection.ask(request)
                if status == 429 and not self.answers[429]:
                    sys.stdout.write("limited\n")
                    sys.stdout.flush()
                self.answers[status] += 1


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("token")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0)
    told = parser.parse_args()
    flood = Flood()
    request = request_of(told.token, "tools/call", {"name": "list_projects", "arguments": {}})
    every = told.connections / told.rate
    sending = asyncio.gather(*(flood.send(told.host, told.port, request, every) for _ in range(told.connections)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    sys.stdout.write(json.dumps(flood.answers) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
