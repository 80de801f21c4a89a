"""HOME-52, RUN-20: how much later the first content of a run comes than through a raw pass-through of the same model.

``python -m tests.bench.first_content [--rounds 200]`` starts the scripted model, a raw pass-through proxy of it and
``innkeeper up``, each a process of its own, and asks both in turn, so that the machine's other work hits both alike.
Prints one JSON line: milliseconds to the first content, p50 and p99, their difference and ratio. Exit code 1 over the
bar.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import quantiles
from typing import Any, Final
from uuid import uuid4

import httpx2

BAR_MS: Final = 10.0
P99_BAR_MS: Final = 25.0
START_SECONDS: Final = 60.0
WARM_UP: Final = 20
WISH: Final = '{"tokens": 5}'


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """A Python process that prints one JSON line when it is ready: its id, and what it says."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, env=os.environ | environment
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            ready = json.loads(await _ready_line(child))
        yield child.pid, ready
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _ready_line(child: Process) -> bytes:
    if child.stdout is None:
        raise RuntimeError("started with a pipe")
    while line := await child.stdout.readline():
        if line.startswith(b"{"):
            return line
    raise RuntimeError("the process ended before it was ready")


async def first(client: httpx2.AsyncClient, url: str, body: dict[str, Any], sign: bytes, **headers: str) -> float:
    """Milliseconds from sending to the first chunk that holds ``sign``; the rest is read and thrown away."""
    began = time.perf_counter()
    found = 0.0
    async with client.stream("POST", url, json=body, headers=headers) as response:
        if response.status_code != 200:
            raise RuntimeError((await response.aread()).decode())
        async for data in response.aiter_raw():
            if not found and sign in data:
                found = time.perf_counter() - began
    if not found:
        raise RuntimeError("no content came")
    return found * 1000


async def measure(rounds: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        _, model = await stack.enter_async_context(process("-m", "tests.fakes.openai_server"))
        _, raw = await stack.enter_async_context(
            process("-m", "tests.fakes.passthrough", "--upstream", model["base_url"])
        )
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="innkeeper-bench-"))
        up = ["-m", "server.cli", "up", "--json", "--port", "0", "--data", data, "--no-detect"]
        settings = {
            "INNKEEPER_MODEL": "openai-chat:scripted",
            "OPENAI_BASE_URL": model["base_url"],
            "OPENAI_API_KEY": "none",
        }
        _, house = await stack.enter_async_context(process(*up, **settings))
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, trust_env=False))
        direct, through = [], []
        gc.collect()
        gc.freeze()
        for number in range(WARM_UP + rounds):
            wish = {"role": "user", "content": WISH}
            asked = {"model": "scripted", "stream": True, "messages": [wish]}
            plain = await first(client, f"{raw['base_url']}/chat/completions", asked, b"word0")
            run = {"threadId": str(uuid4()), "runId": str(uuid4()), "messages": [{"id": "1", **wish}]}
            token = f"Bearer {house['api_key']}"
            agui = await first(client, house["agui_url"], run, b"word0", authorization=token)
            if number >= WARM_UP:
                direct.append(plain)
                through.append(agui)
    return report(direct, through)


def report(direct: Sequence[float], through: Sequence[float]) -> dict[str, Any]:
    plain, agui = quantiles(direct, n=100), quantiles(through, n=100)
    return {
        "claim": "HOME-52, RUN-20",
        "rounds": len(direct),
        "raw_p50_ms": round(plain[49], 2),
        "raw_p99_ms": round(plain[98], 2),
        "agui_p50_ms": round(agui[49], 2),
        "agui_p99_ms": round(agui[98], 2),
        "over_p50_ms": round(agui[49] - plain[49], 2),
        "bar_ms": BAR_MS,
        "over_p99_ms": round(agui[98] - plain[98], 2),
        "p99_bar_ms": P99_BAR_MS,
        "ratio": round(agui[49] / plain[49], 2),
    }


def holds(found: dict[str, Any]) -> bool:
    """Whether both bars are reached."""
    return bool(found["over_p50_ms"] <= BAR_MS and found["over_p99_ms"] <= P99_BAR_MS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    found = asyncio.run(measure(parser.parse_args().rounds))
    print(json.dumps(found))
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
