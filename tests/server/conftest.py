from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from tests.conftest import DatabaseUrls, fresh_database


@pytest_asyncio.fixture
async def empty_urls(cluster: EmbeddedPostgres) -> AsyncIterator[DatabaseUrls]:
    """A database of this test that nobody has migrated yet."""
    async with fresh_database(cluster, template="template1") as made:
        yield made
