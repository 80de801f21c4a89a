"""Too many requests, over real sockets: 429 with Retry-After at every way in, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from server.limits.holdback import AT_ONCE
from server.model_choice import ModelChoice
from tests import serving
from tests.agents.inn import body, user
from tests.bench.flood import connected, request_of
from tests.conftest import DatabaseUrls, House, Tenant
from tests.fakes.openai_server import scripted_model
from tests.fakes.script import Gate, Turn
from tests.server.command import ROOT, noted
from tests.server.test_mcp_house import connected as official
from tests.server.test_serve import environ_of
from tests.serving import house_on_socket, scripted

pytestmark = pytest.mark.promise("MCP-11")

NO_MODEL = ModelChoice(None, {}, {}, None, "none")
CONNECTIONS = 50
PHASE = 1_000
"""Calls of the other tenant, with the flood and without it in turn."""
PHASES = 4


def limits(monkeypatch: pytest.MonkeyPatch, **numbers: object) -> None:
    """The next house has these limits."""
    for name, number in numbers.items():
        monkeypatch.setitem(serving.SETTINGS, f"INNKEEPER_{name.upper()}", str(number))


def client_of(tenant: Tenant) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {tenant.token}", "accept": "application/json, text/event-stream"}
    return httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def test_a_key_beyond_its_rate_gets_429_with_retry_after_at_mcp_and_agui(
    urls: DatabaseUrls, tenant: Tenant, stranger: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, rate_per_key=0.1, rate_per_project=0, rate_burst_seconds=30)
    async with house_on_socket(urls, NO_MODEL) as house, client_of(tenant) as client:
        statuses = [(await client.post(house.mcp, json=call("list_projects"))).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = await client.post(house.mcp, json=call("list_projects"))
        error = refused.json()["error"]
        assert error["data"]["code"] == "rate_limited"
        assert error["data"]["retryable"] is True
        assert refused.headers["retry-after"] == str(error["data"]["retry_after"])
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert "Wait" in error["message"]
        problem = await client.post(house.agui, json=body(user("Hello")))
        assert problem.status_code == 429
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.json()["type"] == "urn:innkeeper:error:rate_limited"
        assert 1 <= int(problem.headers["retry-after"]) <= 10
        async with client_of(stranger) as other:
            assert (await other.post(house.mcp, json=call("list_projects"))).status_code == 200


async def test_a_project_beyond_its_rate_is_429_for_the_call_that_names_it_and_for_no_other(
    urls: DatabaseUrls, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, rate_per_key=0, rate_per_project=0.1, rate_burst_seconds=20)
    named = {"project_id": str(tenant.project_id)}
    async with house_on_socket(urls, NO_MODEL) as house, client_of(tenant) as client:
        answers = [await client.post(house.mcp, json=call("get_project", **named)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        error = answers[-1].json()["error"]
        assert answers[-1].json()["id"] == 7
        assert error["data"]["code"] == "rate_limited"
        assert error["message"].startswith("This project has made its requests for now")
        assert answers[-1].headers["retry-after"] == str(error["data"]["retry_after"])
        assert (await client.post(house.mcp, json=call("list_projects"))).status_code == 200
        run = await client.post(f"{house.agui}?project={tenant.project_id}", json=body(user("Hello")))
        assert (run.status_code, run.json()["type"]) == (429, "urn:innkeeper:error:rate_limited")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_hears_what_was_too_much_and_when_to_come_back(
    urls: DatabaseUrls, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    limits(monkeypatch, rate_per_key=0, rate_per_project=0.1, rate_burst_seconds=10)
    named = {"project_id": str(tenant.project_id)}
    async with house_on_socket(urls, NO_MODEL) as house, official(house.url, tenant.token, mode) as client:
        assert not (await client.call_tool("get_project", named)).is_error
        with pytest.raises(MCPError, match="This project has made its requests for now") as refused:
            await client.call_tool("get_project", named)
    assert 1 <= refused.value.error.data["retry_after"] <= 10


async def test_a_run_holds_its_places_until_it_ends_and_its_own_calls_need_none(
    urls: DatabaseUrls, tenant: Tenant, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, streams_per_key=2, streams_per_project=1, calls_per_key=1, calls_per_project=1)
    gate = Gate()
    async with scripted_model() as model, house_on_socket(urls, scripted(model.base_url)) as served:
        model.script(Turn("One ", gate, "moment."), Turn("And again."))
        async with client_of(tenant) as client:
            first = asyncio.create_task(client.post(served.agui, json=body(user("Hello"))))
            async with asyncio.timeout(60):
                await gate.reached.wait()
            refused = await client.post(served.agui, json=body(user("Hello")))
            assert refused.status_code == 429
            assert refused.json()["type"] == "urn:innkeeper:error:too_many_at_once"
            assert refused.headers["retry-after"] == "1"
            assert (await client.post(served.mcp, json=call("list_projects"))).status_code == 200
            gate.open()
            assert "RUN_FINISHED" in (await first).text
            again = await client.post(served.agui, json=body(user("Hello")))
            assert again.status_code == 200
            assert "RUN_FINISHED" in again.text


async def test_a_flood_of_one_tenant_is_cut_to_its_rate_and_refuses_nobody_else(
    urls: DatabaseUrls, tenant: Tenant, stranger: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, burst, each = 5, 50, 3
    limits(monkeypatch, rate_per_key=rate, rate_burst_seconds=burst / rate, calls_per_key=4)
    answers: Counter[int] = Counter()
    ours = request_of(stranger.token, "tools/call", {"name": "list_projects", "arguments": {}})
    theirs = request_of(tenant.token, "tools/call", {"name": "list_projects", "arguments": {}})
    async with house_on_socket(urls, NO_MODEL) as house:
        at = urlsplit(house.url)
        host, port = str(at.hostname), int(at.port or 0)

        async def flood() -> None:
            async with connected(host, port) as connection:
                for _ in range(each):
                    status, headers, _body = await connection.ask(theirs)
                    answers[status] += 1
                    assert status != 429 or int(headers["retry-after"]) >= 1

        began = perf_counter()
        async with connected(host, port) as connection, asyncio.timeout(100):
            flooding = asyncio.gather(*(flood() for _ in range(CONNECTIONS)))
            for _ in range(40):
                status, _headers, _body = await connection.ask(ours)
                assert status == 200
            await flooding
        seconds = perf_counter() - began
    # Three times the burst was asked for.
    assert answers.keys() == {200, 429}
    assert burst <= answers[200] <= burst + rate * seconds + 1


@pytest.mark.long
@pytest.mark.parametrize("rate", [20, 50, 100])
async def test_ten_times_the_limit_on_fifty_connections_leaves_anothers_p99_below_twice_its_quiet_value(
    urls: DatabaseUrls, house: House, tmp_path: Path, rate: int
) -> None:
    burst_seconds = 2.5 * PHASE / rate
    environ = environ_of(
        urls,
        INNKEEPER_RATE_PER_KEY=str(rate),
        INNKEEPER_RATE_BURST_SECONDS=str(burst_seconds),
        INNKEEPER_LOG_LEVEL="warning",
    )
    quiet: list[float] = []
    flooded: list[float] = []
    async with noted("serve", "--port", "0", cwd=tmp_path, until="ready:", environ=environ) as running:
        began = perf_counter()
        port = int(running.ready["said"].rpartition("http://127.0.0.1:")[2].split()[0])
        async with flooding(port, await house.tenant(), 10 * rate) as flood:
            # Whatever else a machine does meets both: they take turns, each with a budget of its own.
            for _ in range(PHASES):
                other = await house.tenant()
                flood.process.send_signal(signal.SIGCONT)
                flooded += await _seconds(port, other)
                flood.process.send_signal(signal.SIGSTOP)
                quiet += await _seconds(port, other)
        seconds = perf_counter() - began
    print(
        f"p50 {statistics.median(quiet) * 1e3:.2f} -> {statistics.median(flooded) * 1e3:.2f} ms,"
        f" p99 {_p99(quiet) * 1e3:.2f} -> {_p99(flooded) * 1e3:.2f} ms ({_p99(flooded) / _p99(quiet):.2f}),"
        f" flood {flood.answers} in {seconds:.1f} s"
    )
    assert flood.answers.keys() == {"200", "429"}
    assert flood.answers["200"] <= rate * (burst_seconds + seconds) + rate
    # Each connection gets one refusal a second, after the first few, and one more on either side of a phase.
    assert flood.answers["429"] <= (CONNECTIONS + 1) * (sum(flooded) + 2 * PHASES) + AT_ONCE
    assert _p99(flooded) < 2 * _p99(quiet)


@dataclass
class Flooding:
    """A flood that goes on in a process of its own. ``answers``: how many of each status, once it has ended."""

    process: asyncio.subprocess.Process
    answers: dict[str, int] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def flooding(port: int, tenant: Tenant, rate: float) -> AsyncIterator[Flooding]:
    """A flood that has met its limit."""
    command = ["-m", "tests.bench.flood", "127.0.0.1", str(port), tenant.token]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--connections", str(CONNECTIONS), "--rate", str(rate)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    flood = Flooding(process)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(200):
            assert await process.stdout.readline() == b"limited\n"
            yield flood
    finally:
        process.terminate()
        process.send_signal(signal.SIGCONT)
        said, _ = await process.communicate()
    flood.answers = json.loads(said)


async def _seconds(port: int, other: Tenant) -> list[float]:
    """How long each of another's calls took."""
    request = request_of(other.token, "tools/call", {"name": "list_projects", "arguments": {}})
    taken = []
    async with connected("127.0.0.1", port) as connection:
        for _ in range(PHASE):
            began = perf_counter()
            status, _headers, _body = await connection.ask(request)
            taken.append(perf_counter() - began)
            assert status == 200
    return taken


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]
