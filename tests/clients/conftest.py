"""The product on a socket, and the clients that are not written in Python."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients.javascript import JavaScript, installed
from tests.conftest import DatabaseUrls
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.serving import Served, house_on_socket, scripted


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    """The model that every run of :func:`served` talks to, on a socket of its own."""
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def served(urls: DatabaseUrls, model: ScriptedModel) -> AsyncIterator[Served]:
    """The whole product on a socket."""
    async with house_on_socket(urls, scripted(model.base_url)) as served:
        yield served


@pytest.fixture(scope="session")
def javascript() -> JavaScript:
    return installed()
