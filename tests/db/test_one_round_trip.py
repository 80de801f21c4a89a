"""Reads that become their caller and read in one statement are as safe as a transaction of their own."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from db import projects
from db.database import Database
from tests.conftest import DatabaseUrls, Tenant

pytestmark = pytest.mark.promise("HOME-31", "MCP-22")

SETTINGS = "SELECT " + " || ".join(
    f"coalesce(current_setting('app.{name}', true), '')"
    for name in ("credential_id", "user_id", "end_user_id", "project_id")
)


async def test_it_reads_the_callers_own_project_and_no_other(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    row = await projects.read(database, tenant.principal, tenant.project_id)

    assert row is not None
    assert row["id"] == tenant.project_id
    assert await projects.read(database, stranger.principal, tenant.project_id) is None


async def test_nothing_of_the_caller_stays_on_the_connection_not_even_after_an_error(
    urls: DatabaseUrls, tenant: Tenant
) -> None:
    database = await Database.open(urls.app, min_size=1, max_size=1)
    try:
        assert await projects.read(database, tenant.principal, tenant.project_id) is not None
        async with database.system() as connection:
            assert await connection.fetchval(SETTINGS) == ""
            assert await connection.fetchval("SELECT count(*) FROM projects") == 0
        with pytest.raises(asyncpg.PostgresError):
            await database.read("read_nothing", tenant.principal, tenant.project_id)
        async with database.system() as connection:
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetch(
                    "SELECT become($1, $2, NULL, NULL), 1 / 0",
                    *(tenant.principal.credential_id, tenant.principal.user_id),
                )
            assert await connection.fetchval(SETTINGS) == ""
    finally:
        await database.close()


async def test_many_callers_at_once_on_few_connections_never_see_each_others_rows(
    urls: DatabaseUrls, tenant: Tenant, stranger: Tenant
) -> None:
    database = await Database.open(urls.app, min_size=1, max_size=2)

    async def read(reader: Tenant, project: Tenant) -> bool:
        return await projects.read(database, reader.principal, project.project_id) is not None

    try:
        seen = await asyncio.gather(
            *(
                read(reader, project)
                for _ in range(100)
                for reader in (tenant, stranger)
                for project in (tenant, stranger)
            )
        )
    finally:
        await database.close()

    assert seen == [True, False, False, True] * 100
