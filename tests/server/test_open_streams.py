"""What an open event stream of the MCP endpoint costs in memory."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from tests.server.edge_services import FULL_KEY

STREAMS = 1_000
AT_ONCE = 100
MOST_KILOBYTES = 40

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "wait", "arguments": {}, "_meta": {"progressToken": "t"}},
}


async def resident_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    ps = await asyncio.create_subprocess_exec("ps", "-o", "rss=", "-p", str(pid), stdout=PIPE)
    said, _ = await ps.communicate()
    return int(said)


async def opened(port: int) -> asyncio.StreamWriter:
    """A stream on which the tool has said that it has begun."""
    body = json.dumps(CALL).encode()
    head = (
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {FULL_KEY}\r\n"
        "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n"
        f"mcp-protocol-version: 2025-11-25\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    await reader.readuntil(b"notifications/progress")
    return writer


@pytest.mark.promise("MCP-24")
async def test_a_thousand_open_streams_cost_at_most_forty_kilobytes_each() -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.server.stream_server", stdin=DEVNULL, stdout=PIPE
    )
    writers: list[asyncio.StreamWriter] = []
    try:
        assert server.stdout is not None
        async with asyncio.timeout(60):
            port = int(await server.stdout.readline())
            # What the first streams load and cache is not theirs.
            writers.append(await opened_when_it_listens(port))
            before = await resident_kilobytes(server.pid)
            for _ in range(STREAMS // AT_ONCE):
                writers += await asyncio.gather(*(opened(port) for _ in range(AT_ONCE)))
            after = await resident_kilobytes(server.pid)
    finally:
        for writer in writers:
            writer.close()
        server.kill()
        await server.wait()
    assert (after - before) / STREAMS <= MOST_KILOBYTES


async def opened_when_it_listens(port: int) -> asyncio.StreamWriter:
    while True:
        try:
            return await opened(port)
        except ConnectionRefusedError:
            await asyncio.sleep(0)
