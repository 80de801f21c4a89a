"""What an open event stream costs in memory: of a tool at the MCP endpoint, and of a run."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from agents.wakeups import POLL_SECONDS, POLLS, Wakeups
from tests.agents.inn import body, user
from tests.conftest import DatabaseUrls, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Gate, Turn
from tests.server.command import Running, noted
from tests.server.edge_services import FULL_KEY
from tests.server.test_serve import environ_of

STREAMS = 1_000
AT_ONCE = 100
MOST_KILOBYTES = 40
READERS = 2_000
MOST_KILOBYTES_OF_A_READER = 20
LIMITS = ("RATE_PER_KEY", "RATE_PER_PROJECT", "STREAMS_PER_KEY", "STREAMS_PER_PROJECT")

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


@pytest.mark.promise("MCP-24", "RUN-23")
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_idle_readers_of_a_run_cost_at_most_twenty_kilobytes_each(
    urls: DatabaseUrls, tenant: Tenant, tmp_path: Path, elsewhere: bool
) -> None:
    """In the process of the run and in another one. The stream that a run is begun on is one like theirs; what the run
    itself takes beside it is not a stream's."""
    async with scripted_model() as model, AsyncExitStack() as stack:
        model.script(Turn("One ", Gate(), "moment."), Turn("Another."))
        served = [await stack.enter_async_context(serving(urls, model, tmp_path)) for _ in range(1 + elsewhere)]
        port = port_of(served[-1])
        writers: list[asyncio.StreamWriter] = []
        try:
            async with asyncio.timeout(60):
                run_id, started = await begun(port_of(served[0]), tenant)
                if elsewhere:  # what runs need is loaded behind the first one
                    writers.append((await begun(port, tenant))[1])
                writers += [started, *await asyncio.gather(*(joined(port, tenant, run_id) for _ in range(AT_ONCE)))]
                before = await resident_kilobytes(served[-1].process.pid)
                for _ in range(READERS // AT_ONCE):
                    writers += await asyncio.gather(*(joined(port, tenant, run_id) for _ in range(AT_ONCE)))
                after = await resident_kilobytes(served[-1].process.pid)
        finally:
            for writer in writers:
                writer.close()
    assert (after - before) / READERS <= MOST_KILOBYTES_OF_A_READER


def serving(urls: DatabaseUrls, model: ScriptedModel, folder: Path) -> AbstractAsyncContextManager[Running]:
    environ = unlimited(urls, model)
    return noted("serve", "--port", "0", cwd=folder, until="ready:", environ=environ)


def port_of(running: Running) -> int:
    return int(running.ready["said"].rpartition("http://127.0.0.1:")[2].split()[0])


async def test_many_readers_look_for_themselves_less_often() -> None:
    wakeups = Wakeups()
    first, *others = (uuid4() for _ in range(STREAMS))
    news = wakeups.enter(first).changed
    assert wakeups.patience == POLL_SECONDS
    for other in others:
        wakeups.enter(other)
    assert wakeups.patience == STREAMS / POLLS
    wakeups.missed()
    assert news.is_set()
    for run_id in (first, *others):
        wakeups.leave(run_id)
    assert wakeups.patience == POLL_SECONDS


def unlimited(urls: DatabaseUrls, model: ScriptedModel) -> dict[str, str]:
    """An environment in which one key may open as many streams as it likes, and the model is ``model``."""
    limits = {f"INNKEEPER_{name}": "0" for name in LIMITS}
    return environ_of(
        urls,
        **limits,
        INNKEEPER_MODEL="openai-chat:scripted",
        OPENAI_BASE_URL=model.base_url,
        OPENAI_API_KEY="k" * 20,
        INNKEEPER_DRAIN_SECONDS="0",
        INNKEEPER_LOG_LEVEL="warning",
    )


async def begun(port: int, tenant: Tenant) -> tuple[str, asyncio.StreamWriter]:
    """A run that waits for the rest of what its model says, and the stream it was begun on."""
    started = json.dumps(body(user("Hello"))).encode()
    head = f"POST /agui HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {len(started)}\r\n"
    answered, writer = await streamed(port, tenant, head.encode(), started)
    return answered.partition(b"innkeeper-run-id: ")[2][:36].decode(), writer


async def joined(port: int, tenant: Tenant, run_id: str) -> asyncio.StreamWriter:
    """Another reader of that run, who has read all there is."""
    _, writer = await streamed(port, tenant, f"GET /runs/{run_id}/events HTTP/1.1\r\n".encode())
    return writer


async def streamed(port: int, tenant: Tenant, head: bytes, sent: bytes = b"") -> tuple[bytes, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + f"host: localhost\r\nauthorization: Bearer {tenant.token}\r\n\r\n".encode() + sent)
    return await reader.readuntil(b"TEXT_MESSAGE_CONTENT"), writer
