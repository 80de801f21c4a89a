"""What runs cost, one by one and as many live streams, and how late their words come (RUN-21, RUN-22, RUN-24).

``python -m tests.bench.run_streams [--streams 150]`` starts a scripted model that says 50 words a second to each
asker, each word being the moment at which it was said, and ``innkeeper up`` and pydantic-ai's own AG-UI adapter, each a
process of its own. Prints one JSON line: the CPU time of a chunk in both server processes (the database's is its own),
their ratio, the delay of words at so many streams, and the CPU time of a run up to its first word, and of a whole one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final
from uuid import uuid4

import httpx2

from tests.bench.first_content import process

WORDS_PER_SECOND: Final = 50
LEAST_RATIO: Final = 4.0
MOST_DELAY_MS: Final = 150.0
MOST_START_MS: Final = 10.0
FEW: Final = 15
"""Streams that the adapter can hold without falling behind."""
MOMENT: Final = re.compile(rb"@(\d+) ")


@dataclass(frozen=True)
class Load:
    """What so many streams took. ``delays``: milliseconds of each word, by when it was said."""

    chunks: int
    cpu_microseconds: float
    delays: list[tuple[int, float]]

    @property
    def p99_ms(self) -> float:
        return quantiles([delay for _, delay in self.delays], n=100)[98]

    @property
    def p50_ms(self) -> float:
        return median(delay for _, delay in self.delays)

    @property
    def falls_behind(self) -> bool:
        """Whether words of the last quarter come later by more than a bar than those of the second."""
        ordered = [delay for _, delay in sorted(self.delays)]
        quarter = len(ordered) // 4
        return median(ordered[-quarter:]) > median(ordered[quarter : 2 * quarter]) + MOST_DELAY_MS


async def one(client: httpx2.AsyncClient, url: str, words: int, headers: dict[str, str]) -> list[tuple[int, float]]:
    """One run, read to its end."""
    asked = _asked({"moments": words})
    found: list[tuple[int, float]] = []
    async with client.stream("POST", url, json=asked, headers=headers) as response:
        if response.status_code != 200:
            raise RuntimeError((await response.aread()).decode())
        rest = b""
        async for data in response.aiter_raw():
            now = time.monotonic_ns()
            text, _, rest = (rest + data).rpartition(b"\n\n")
            found += [(said := int(moment), (now - said) / 1e6) for moment in MOMENT.findall(text)]
    if len(found) != words:
        raise RuntimeError(f"{len(found)} of {words} words came")
    return found


async def starts(pid: int, url: str, runs: int, headers: dict[str, str]) -> float:
    """Milliseconds of CPU time from a run's request until its first word has come. No run ends meanwhile."""
    async with httpx2.AsyncClient(timeout=120, trust_env=False) as client, AsyncExitStack() as stack:
        for _ in range(20):
            await _begun(stack, client, url, headers)
        before = cpu_seconds(pid)
        for _ in range(runs):
            await _begun(stack, client, url, headers)
        return (cpu_seconds(pid) - before) * 1000 / runs


async def _begun(stack: AsyncExitStack, client: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> None:
    """A run whose first word is there, and whose model says no other; its stream stays open."""
    asked = _asked({"moments": 1, "hang": True}) | {"forwardedProps": {"innkeeper": {"onDisconnect": "cancel"}}}
    response = await stack.enter_async_context(client.stream("POST", url, json=asked, headers=headers))
    text = b""
    async for data in response.aiter_raw():
        text += data
        if MOMENT.search(text):
            return
    raise RuntimeError(text.decode())


async def whole_runs(pid: int, url: str, runs: int, headers: dict[str, str]) -> float:
    """Milliseconds of CPU time for a run that says one word, from its request to its end."""
    async with httpx2.AsyncClient(timeout=120, trust_env=False) as client:
        for _ in range(20):
            await one(client, url, 1, headers)
        before = cpu_seconds(pid)
        for _ in range(runs):
            await one(client, url, 1, headers)
        return (cpu_seconds(pid) - before) * 1000 / runs


async def load(pid: int, url: str, streams: int, seconds: float, headers: dict[str, str]) -> Load:
    """``streams`` runs at once, of so many seconds each."""
    words = int(seconds * WORDS_PER_SECOND)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=120, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(one(client, url, 3, headers) for _ in range(5)))
        before = cpu_seconds(pid)
        each = await asyncio.gather(*(_later(client, url, words, headers, number) for number in range(streams)))
        spent = cpu_seconds(pid) - before
    delays = [delay for stream in each for delay in stream]
    return Load(len(delays), spent * 1e6 / len(delays), delays)


async def _later(
    client: httpx2.AsyncClient, url: str, words: int, headers: dict[str, str], number: int
) -> list[tuple[int, float]]:
    """Begun one after the other: nobody's product starts all of its runs in one moment."""
    await asyncio.sleep(number * 0.02)
    return await one(client, url, words, headers)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, without its children (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _asked(wish: dict[str, object]) -> dict[str, Any]:
    """The input of a run in a new thread."""
    message = {"id": "1", "role": "user", "content": json.dumps(wish)}
    return {"threadId": str(uuid4()), "runId": str(uuid4()), "messages": [message]}


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    """Where the scripted model is."""
    said = ("-m", "tests.fakes.openai_server", "--tokens-per-second", str(WORDS_PER_SECOND))
    async with process(*said) as (_pid, ready):
        yield ready["base_url"]


@asynccontextmanager
async def house(base_url: str) -> AsyncIterator[tuple[int, str, dict[str, str]]]:
    """Process, address and headers of ``innkeeper up``."""
    settings = {
        "INNKEEPER_MODEL": "openai-chat:scripted",
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "none",
    } | {f"INNKEEPER_{name}": "0" for name in ("STREAMS_PER_KEY", "STREAMS_PER_PROJECT")}
    with tempfile.TemporaryDirectory(prefix="innkeeper-bench-") as data:
        up = ["-m", "server.cli", "up", "--json", "--port", "0", "--data", data, "--no-detect"]
        async with process(*up, **settings) as (pid, ready):
            yield pid, ready["agui_url"], {"authorization": f"Bearer {ready['api_key']}"}


async def measure(streams: int, seconds: float) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        base_url = await stack.enter_async_context(model())
        theirs = await stack.enter_async_context(process("-m", "tests.bench.agui_adapter", "--upstream", base_url))
        pid, url, headers = await stack.enter_async_context(house(base_url))
        whole = await whole_runs(pid, url, 100, headers)
        start = await starts(pid, url, 100, headers)
        adapter = await load(theirs[0], theirs[1]["agui_url"], FEW, seconds, {})
        same = await load(pid, url, FEW, seconds, headers)
        many = await load(pid, url, streams, seconds, headers)
    return {
        "claim": "RUN-21, RUN-22, RUN-24",
        "adapter_us_a_chunk": round(adapter.cpu_microseconds),
        "few_us_a_chunk": round(same.cpu_microseconds),
        "many_us_a_chunk": round(many.cpu_microseconds),
        "ratio_few": round(adapter.cpu_microseconds / same.cpu_microseconds, 2),
        "ratio": round(adapter.cpu_microseconds / many.cpu_microseconds, 2),
        "least_ratio": LEAST_RATIO,
        "streams": streams,
        "delay_p50_ms": round(many.p50_ms, 1),
        "delay_p99_ms": round(many.p99_ms, 1),
        "most_delay_ms": MOST_DELAY_MS,
        "falls_behind": many.falls_behind,
        "start_cpu_ms": round(start, 2),
        "whole_run_cpu_ms": round(whole, 2),
        "most_start_cpu_ms": MOST_START_MS,
    }


def holds(found: dict[str, Any]) -> bool:
    """Whether every bar is reached."""
    cheap = found["ratio"] >= LEAST_RATIO and found["start_cpu_ms"] <= MOST_START_MS
    return bool(cheap and found["delay_p99_ms"] <= MOST_DELAY_MS and not found["falls_behind"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    found = asyncio.run(measure(options.streams, options.seconds))
    print(json.dumps(found))
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
