"""One run, read by many in another process than its own."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import quantiles

import pytest
import pytest_asyncio

from tests.conftest import DatabaseUrls, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Gate, Turn
from tests.server.test_open_streams import begun, port_of, serving

READERS = 100
WORDS = 100
MOST_MS = 60.0
STAMP = re.compile(rb'"delta":"w[^"]*","timestamp":(\d+)|"type":"RUN_FINISHED"')
EVENTS = re.compile(rb"id: \d+\ndata: [^\n]*\n\n")


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model(tokens_per_second=25) as model:
        yield model


async def read(port: int, tenant: Tenant, run_id: str, joined: asyncio.Semaphore) -> tuple[list[float], bytes]:
    """How late each word came, in milliseconds behind its stamp, and every event as it came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET /runs/{run_id}/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {tenant.token}\r\n\r\n"
    writer.write(head.encode())
    late, came = [], b""
    first = True
    while b'"type":"RUN_FINISHED"' not in came:
        data = await reader.read(1 << 16)
        assert data
        now = time.time_ns() / 1e6
        came += data
        if first and b"TEXT_MESSAGE_START" in came:
            first = False
            joined.release()
            continue
        late += [now - int(stamp) for stamp in STAMP.findall(data) if stamp]
    writer.close()
    return late, b"".join(EVENTS.findall(came))


async def fanned_out(urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, folder: Path) -> list[float]:
    """How late every word came to every reader of the other process; all of them got the same bytes."""
    gate = Gate()
    model.script(Turn("begin ", gate, *(f"w{number} " for number in range(WORDS))))
    async with serving(urls, model, folder) as its, serving(urls, model, folder) as other:
        run_id, writer = await begun(port_of(its), tenant)
        joined = asyncio.Semaphore(0)
        reading = [asyncio.create_task(read(port_of(other), tenant, run_id, joined)) for _ in range(READERS)]
        for _ in range(READERS):
            await joined.acquire()
        gate.open()
        found = await asyncio.gather(*reading)
        writer.close()
    assert len({came for _, came in found}) == 1
    events = [json.loads(line[6:]) for line in found[0][1].split(b"\n") if line.startswith(b"data: ")]
    said = [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert "".join(said) == "begin " + "".join(f"w{number} " for number in range(WORDS))
    return [delay for late, _ in found for delay in late]


async def test_a_hundred_readers_in_another_process_get_the_same_bytes(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, tmp_path: Path
) -> None:
    assert len(await fanned_out(urls, tenant, model, tmp_path)) > READERS


@pytest.mark.long
@pytest.mark.promise("RUN-23")
async def test_words_reach_a_hundred_readers_in_another_process_within_sixty_milliseconds(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, tmp_path: Path
) -> None:
    late = await fanned_out(urls, tenant, model, tmp_path)
    assert quantiles(late, n=100)[98] <= MOST_MS
