from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import httpx2
import pytest

from tests.server.command import Running, descendants, up

COLD_SECONDS, WARM_SECONDS, STALL_SECONDS, MEGABYTES = 8.0, 3.0, 0.1, 200.0


def memory(pid: int) -> float:
    """The proportional set size of the tree in MB, without PostgreSQL and the local model."""
    kilobytes = 0
    for process in {pid} | descendants(pid):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"postgres" in command.partition(b"\0")[0] or b"llama_server" in command:
            continue
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


async def worst_answer(running: Running) -> float:
    """The longest that ``/healthz`` takes while the agents are being imported behind it."""
    worst, until = 0.0, monotonic() + 6
    reading = asyncio.create_task(read_log(running))
    async with httpx2.AsyncClient(trust_env=False) as client:
        while monotonic() < until:
            began = monotonic()
            await client.get(f"{running.ready['url']}/healthz")
            worst = max(worst, monotonic() - began)
    reading.cancel()
    return worst


async def read_log(running: Running) -> None:
    """Read what the process logs: a full pipe that nobody reads would make it wait."""
    assert running.process.stderr is not None
    while await running.process.stderr.read(65536):
        pass


@pytest.mark.long
@pytest.mark.promise("HOME-51")
async def test_up_is_quick_to_its_first_tool_call_small_and_stalls_nobody(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for allowed in (COLD_SECONDS, WARM_SECONDS):
        began = monotonic()
        async with up(data, cwd=tmp_path) as running:
            await running.call("list_projects")
            assert monotonic() - began <= allowed
            assert await worst_answer(running) <= STALL_SECONDS
            assert memory(running.process.pid) <= MEGABYTES
