"""A database, and the connections to it, that the tests of a module share: for such as look at their own tenants alone.

A module imports all of it, and runs its tests in its own loop (``loop_scope="module"``): its tests' fixtures are these
instead of those of :mod:`tests.conftest`. A database and five connections for each are most of what a short test takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from db.credentials import Authenticator
from db.database import Database
from db.embedded.cluster import EmbeddedPostgres
from tests.conftest import DatabaseUrls, House, Owner, Tenant, fresh_database, opened

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(cluster: EmbeddedPostgres) -> AsyncIterator[DatabaseUrls]:
    async with fresh_database(cluster) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(urls: DatabaseUrls) -> AsyncIterator[Owner]:
    connection = await asyncpg.connect(urls.owner)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(urls: DatabaseUrls) -> AsyncIterator[Database]:
    async with opened(urls) as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def authenticator(database: Database) -> Authenticator:
    authenticator = Authenticator(database)
    await authenticator.start()
    return authenticator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(owner: Owner, authenticator: Authenticator) -> House:
    return House(owner, authenticator)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unasked(owner: Owner) -> None:
    """From here on, every project of the module."""
    await owner.execute("ALTER TABLE projects ALTER approval_policy SET DEFAULT 'never'")
    await owner.execute("UPDATE projects SET approval_policy = 'never'")


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(house: House) -> Tenant:
    """This test's own, as all of them are."""
    return await house.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(house: House) -> Tenant:
    return await house.tenant("stranger")
