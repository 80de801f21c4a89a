"""One house for a whole module, and people with browsers that keep cookies and run no JavaScript."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from tests.server.oauth.houses import house
from tests.server.oauth.people import Inn, Person


@pytest.fixture(scope="module")
def links() -> list[str | None]:
    """To sign in with, as the terminal of ``up`` tells them."""
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inn(cluster: EmbeddedPostgres, links: list[str | None]) -> AsyncIterator[Inn]:
    async with house(cluster, say_link=lambda _address, link: links.append(link)) as inn:
        yield inn


@pytest_asyncio.fixture(loop_scope="module")
async def person(inn: Inn) -> AsyncIterator[Person]:
    """Somebody with two projects, signed in."""
    async with inn.person() as person:
        yield person
