"""One house on a socket for a whole module, and people in front of their browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from tests.server.oauth.houses import house
from tests.server.oauth.people import Inn, Person


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inn(cluster: EmbeddedPostgres) -> AsyncIterator[Inn]:
    async with house(cluster) as inn:
        yield inn


@pytest_asyncio.fixture(loop_scope="module")
async def person(inn: Inn) -> AsyncIterator[Person]:
    """Somebody with two projects, signed in."""
    async with inn.person() as person:
        yield person
