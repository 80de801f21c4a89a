"""Grants of OAuth clients as the database keeps them: bound to projects, revoked everywhere, nobody else's."""

from __future__ import annotations

import statistics
from functools import partial
from uuid import UUID

import asyncpg
import pytest

from db.credentials import Authenticator
from db.database import Database
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from db.oauth.clients import HOUSE_CLIENT_ID
from db.principal import Principal
from db.tokens import ACCESS, new_token, token_hash
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually, opened
from tests.machine import Stopwatch, within

AUDIENCE = "http://127.0.0.1/mcp"


async def granted(owner: Owner, user_id: UUID, *projects: UUID, scopes: str = "projects:read") -> tuple[UUID, str]:
    """A grant for everything, or for these projects, and an access token of it."""
    grant, token = uuid7(), new_token(ACCESS)
    client = await owner.fetchval("SELECT id FROM oauth_clients WHERE client_id = $1", HOUSE_CLIENT_ID)
    await owner.execute(
        "SELECT create_grant($1, $2, $3, $4, $5, false, $6)",
        *(grant, user_id, client, scopes.split(), list(projects) or None, AUDIENCE),
    )
    await owner.execute(
        "SELECT issue_tokens($1, $2, $3, '1 hour', NULL, NULL)", grant, scopes.split(), token_hash(token)
    )
    return grant, token


@pytest.mark.promise("IDN-13")
async def test_the_end_of_a_grant_reaches_every_process_within_100_ms(
    owner: Owner, urls: DatabaseUrls, tenant: Tenant, cluster: EmbeddedPostgres
) -> None:
    async with opened(urls) as one, opened(urls) as other:
        processes = [Authenticator(one), Authenticator(other)]
        for process in processes:
            await process.start()

        async def refused(process: Authenticator, token: str) -> bool:
            return await process.authenticate(token) is None

        async def p99() -> float:
            return statistics.quantiles([await delay() for _ in range(40)], n=100)[98]

        async def delay() -> float:
            grant, token = await granted(owner, tenant.user_id)
            for process in processes:
                assert await process.authenticate(token) is not None
            await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", grant)
            watch = Stopwatch(cluster.pid)
            for process in processes:
                await eventually(partial(refused, process, token))
            return watch.seconds()

        await within(0.1, p99)


@pytest.mark.promise("IDN-12")
async def test_a_grant_for_some_projects_sees_no_other_whatever_python_chooses(
    owner: Owner, database: Database, authenticator: Authenticator, house: House, tenant: Tenant
) -> None:
    projects = [tenant.project_id]
    for name in ("second", "third"):
        projects.append(uuid7())
        await owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, $2, $3)", projects[-1], name, tenant.user_id
        )
    for project in projects:
        await owner.execute("INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, 'x')", project, uuid7())
    scopes = "projects:read projects:write"
    _grant, token = await granted(owner, tenant.user_id, *projects[:2], scopes=scopes)
    principal = await authenticator.authenticate(token)
    assert principal is not None
    assert (principal.kind, principal.project_id) == ("oauth", None)
    assert principal.project_ids == set(projects[:2])
    assert not principal.account_wide

    async with database.transaction(principal) as connection:
        seen = {row["id"] for row in await connection.fetch("SELECT id FROM projects")}
        members = {row["project_id"] for row in await connection.fetch("SELECT project_id FROM project_members")}
        assert seen == members == set(projects[:2])
        page = await connection.fetch("SELECT id FROM page_of_projects($1, NULL, NULL, 10)", tenant.user_id)
        assert {row["id"] for row in page} == set(projects[:2])
    for project, found in zip(projects, (1, 1, 0), strict=True):
        async with database.transaction(principal, project) as connection:
            assert await connection.fetchval("SELECT count(*) FROM threads") == found
            changed = await connection.execute("UPDATE projects SET name = 'x' WHERE id = $1", project)
            assert changed == f"UPDATE {found}"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(principal) as connection:
            await connection.execute(
                "INSERT INTO projects (id, name, created_by) VALUES ($1, 'new', $2)", uuid7(), tenant.user_id
            )

    _grant, single = await granted(owner, tenant.user_id, projects[2], scopes=scopes)
    bound = await authenticator.authenticate(single)
    assert bound is not None
    assert (bound.project_id, bound.project_ids) == (projects[2], frozenset())


@pytest.mark.promise("IDN-13")
async def test_tokens_codes_and_consents_are_seen_by_nobody_but_their_person(
    owner: Owner, database: Database, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    await granted(owner, tenant.user_id)

    async def seen(caller: Principal, query: str) -> int:
        async with database.transaction(caller) as connection:
            return len(await connection.fetch(query))

    for caller in (tenant.principal, stranger.principal):
        assert await seen(caller, "SELECT created_at FROM oauth_access_tokens") == 0, "a key is no person"
        assert await seen(caller, "SELECT * FROM oauth_consents") == 0
        assert await seen(caller, "SELECT client_id FROM oauth_clients") == 0
    for query in (
        "SELECT token_hash FROM oauth_access_tokens",
        "SELECT salt FROM oauth_refresh_tokens",
        "SELECT * FROM oauth_codes",
        "SELECT * FROM oauth_devices",
        "SELECT secret_hash FROM oauth_clients",
        "SELECT create_grant(NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "SELECT issue_tokens(NULL, NULL, NULL, NULL, NULL, NULL)",
        "SELECT end_grant(NULL, NULL)",
        "SELECT clean_up_oauth(1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await seen(tenant.principal, query)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(tenant.principal) as connection:
            await connection.execute(
                "INSERT INTO oauth_codes (code_hash, request_id, user_id, client_id, redirect_uri, challenge, audience)"
                " SELECT 'x', $1, $2, '00000000-0000-7000-8000-000000000001', 'x', 'x', 'x'",
                *(uuid7(), tenant.user_id),
            )
