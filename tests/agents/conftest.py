"""A scripted model and a house that asks it, for the tests of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.agents.inn import Inn, inn
from tests.conftest import DatabaseUrls
from tests.fakes.openai_server import ScriptedModel, scripted_model


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def house_open(urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Inn]:
    async with inn(urls, model_url=model.base_url) as opened:
        yield opened
