"""What is said of the plain HTTP of this house and what it really answers: an outside fuzzer compares them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from db import sessions
from server.openapi.document import PATH
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel
from tests.serving import Served, house_on_socket, scripted

UNCHECKED = "positive_data_acceptance"
"""A request may have the right shape and still be refused: it names what is not there, or a form of another page."""


@pytest_asyncio.fixture
async def house_with_files(urls: DatabaseUrls, model: ScriptedModel, tmp_path: Path) -> AsyncIterator[Served]:
    async with house_on_socket(urls, scripted(model.base_url), files=tmp_path) as served:
        yield served


@pytest.mark.promise("RUN-12")
async def test_a_fuzzer_finds_no_fault_and_no_answer_that_is_not_described(
    house_with_files: Served, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(await what_there_is(house_with_files, tenant), encoding="utf-8")
    await fuzzed(house_with_files, tenant, owner, config, examples=3)


@pytest.mark.long
async def test_a_fuzzer_that_takes_its_time_finds_nothing_either(
    house_with_files: Served, tenant: Tenant, owner: Owner, tmp_path: Path
) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(await what_there_is(house_with_files, tenant), encoding="utf-8")
    await fuzzed(house_with_files, tenant, owner, config, examples=60)


async def what_there_is(served: Served, tenant: Tenant) -> str:
    """The fuzzer's settings: ids of what is there, for requests that would only hear of what is not. What it deletes is
    something else."""
    weather = {"name": "Weather", "description": "", "propsSchema": {"type": "object"}}
    shown = '{"call": "show_component_Weather", "args": {}}'
    said = {"role": "user", "content": [{"type": "text", "text": shown}]}
    async with httpx2.AsyncClient(
        base_url=served.url, headers={"x-api-key": tenant.token}, timeout=30, trust_env=False
    ) as client:
        run = await client.post("/v1/threads/runs", json={"message": said, "availableComponents": [weather]})
        thread_id, run_id = run.headers["x-thread-id"], run.headers["x-run-id"]
        messages = (await client.get(f"/v1/threads/{thread_id}/messages")).json()["messages"]
    events = [json.loads(line[6:]) for line in run.text.splitlines() if line.startswith("data: ")]
    [component_id] = [one["value"]["componentId"] for one in events if one.get("name") == "tambo.component.start"]
    there = {
        "project_id": tenant.project_id,
        "thread_id": thread_id,
        "thread": thread_id,
        "run_id": run_id,
        "message_id": messages[0]["id"],
        "component_id": component_id,
        "agent": "default",
    }
    lines = [f'"path.{name}" = "{known}"' for name, known in there.items()]
    deleted = ["[[operations]]", 'include-method = "DELETE"', f'parameters = {{ "path.thread_id" = "{uuid4()}" }}']
    return "\n".join(["[parameters]", *lines, "", *deleted, ""])


async def fuzzed(served: Served, tenant: Tenant, owner: Owner, config: Path, examples: int) -> None:
    """From outside, with a key and with the session of a signed-in person, so that no way in hides what is behind."""
    async with httpx2.AsyncClient(
        base_url=served.url, headers={"origin": served.url}, trust_env=False, timeout=60
    ) as browser:
        link = await sessions.create_link(owner, tenant.user_id)
        await browser.post("/sign-in/link", data={"link": link, "to": "/approvals"})
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{served.url}{PATH}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", "7"),
        *("--checks", "all", "--exclude-checks", UNCHECKED),
        *("--header", f"Authorization: Bearer {tenant.token}", "--header", f"x-api-key: {tenant.token}"),
        *("--header", f"Cookie: {cookies}"),
        *("--request-timeout", "30", "--continue-on-failure", "--generation-database", "none", "--no-color"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=config.parent
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[:6_000]
