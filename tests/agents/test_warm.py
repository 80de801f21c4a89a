"""What runs need is imported after ready, off the loop, and stalls nothing."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

SCRIPT = """
import asyncio, json, sys, time
from agents.engine import RunEngine
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
import server.app

heavy = {"pydantic_ai", "openai", "aiohttp", "fastmcp", "ag_ui"}
early = sorted({name.partition(".")[0] for name in sys.modules} & heavy)

async def nothing(*_):
    pass

async def main():
    factory = ModelFactory(default=ModelSpec("openai-chat:x", base_url="http://127.0.0.1:1/v1"))
    engine = RunEngine(None, factory, mcp_app=nothing)
    warming = asyncio.create_task(engine.warm())
    longest, last = 0.0, time.perf_counter()
    while not warming.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await warming
    await factory.aclose()
    print(json.dumps({"early": early, "longest": longest, "warm": "pydantic_ai" in sys.modules}))

asyncio.run(main())
"""


@pytest.mark.promise("HOME-51")
async def test_importing_what_runs_need_stalls_no_stream_over_100_ms() -> None:
    stalls = []
    for _attempt in range(3):  # the machine's other work may take the processor away; the import must not
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCRIPT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        answer, errors = await asyncio.wait_for(child.communicate(), 90)
        assert child.returncode == 0, errors.decode()
        found = json.loads(answer)
        assert found["early"] == [], "imported before ready"
        assert found["warm"]
        stalls.append(found["longest"])
        if found["longest"] <= 0.1:
            break
    assert min(stalls) <= 0.1, stalls
