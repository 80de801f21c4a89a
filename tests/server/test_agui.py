"""``POST /agui`` over a real socket: AG-UI 1.0 in, AG-UI 1.0 out, Innkeeper's tools in between."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from ag_ui.core import Event as AGUIEvent
from ag_ui_validate.pytest_plugin import assert_valid_agui
from pydantic import TypeAdapter

from tests.agents.inn import Inn, body, inn, run, user
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Status, ToolCall, Turn

EVENT = TypeAdapter(AGUIEvent)


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def house_open(urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Inn]:
    async with inn(urls, model_url=model.base_url) as opened:
        yield opened


@pytest.mark.promise("HOME-20")
async def test_a_run_streams_the_models_text_as_agui_events(
    house_open: Inn, tenant: Tenant, model: ScriptedModel
) -> None:
    model.script(Turn("Good ", "evening."))
    stream = await run(house_open, tenant.token, body(user("Hello"), thread="t", run="r"))
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text == "Good evening."
    assert stream.types[0] == "RUN_STARTED"
    assert stream.types[-1] == "RUN_FINISHED"
    assert stream.events[0]["threadId"] == "t"
    assert stream.last["runId"] == "r"
    assert stream.last["outcome"] == {"type": "success"}
    assert stream.ids == list(range(1, len(stream.ids) + 1))
