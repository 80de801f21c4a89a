from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from tests.conftest import DatabaseUrls


@pytest_asyncio.fixture
async def empty_urls(cluster: EmbeddedPostgres) -> AsyncIterator[DatabaseUrls]:
    """A database of this test that nobody has migrated yet."""
    name = f"empty_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" OWNER innkeeper_owner')
        roles = ("innkeeper_owner", "innkeeper_app", "innkeeper_ops", "postgres")
        yield DatabaseUrls(*(cluster.url(name, role) for role in roles))
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()
