"""What runs need is imported after ready, off the loop, and stalls nothing."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.machine import within

SCRIPT = """
import asyncio, json, sys
from agents.engine import RunEngine
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from tests.machine import Stopwatch
import server.app

heavy = {"pydantic_ai", "openai", "aiohttp", "fastmcp", "ag_ui"}
early = sorted({name.partition(".")[0] for name in sys.modules} & heavy)

async def nothing(*_):
    pass

async def main():
    factory = ModelFactory(default=ModelSpec("openai-chat:x", base_url="http://127.0.0.1:1/v1"))
    engine = RunEngine(None, factory, mcp_app=nothing)
    warming = asyncio.create_task(engine.warm())
    # Without what the machine's other work took: while the import stands ready, nobody has the interpreter.
    longest, watch = 0.0, Stopwatch()
    while not warming.done():
        await asyncio.sleep(0.001)
        longest = max(longest, watch.lap())
    await warming
    await factory.aclose()
    print(json.dumps({"early": early, "longest": longest, "warm": "pydantic_ai" in sys.modules}))

asyncio.run(main())
"""


@pytest.mark.promise("HOME-51")
async def test_importing_what_runs_need_stalls_no_stream_over_100_ms() -> None:
    async def longest() -> float:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCRIPT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        answer, errors = await asyncio.wait_for(child.communicate(), 90)
        assert child.returncode == 0, errors.decode()
        found = json.loads(answer)
        assert found["early"] == [], "imported before ready"
        assert found["warm"]
        return float(found["longest"])

    await within(0.1, longest)
