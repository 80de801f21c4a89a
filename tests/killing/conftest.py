"""Houses to kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
import pytest_asyncio

from tests.conftest import DatabaseUrls
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.killing.houses import House, Houses
from tests.killing.points import Point


class Open(Protocol):
    """Opens one more house on the test's database, which asks the test's model."""

    async def __call__(self, *points: Point, lease: float | None = None) -> House: ...


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    opened = Houses(tmp_path_factory.mktemp("houses") / "log")
    yield opened
    opened.close()


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def open_house(houses: Houses, urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def another(*points: Point, lease: float | None = None) -> House:
            house = await houses.open(urls, model.base_url, points=points, lease=lease)
            stack.push_async_callback(house.close)
            return house

        yield another
