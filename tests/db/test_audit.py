"""The audit log as its table keeps it: added to by who acts, as who they are, and changed by nobody."""

from __future__ import annotations

import asyncpg
import pytest

from db import ledger, origin
from db.database import Database
from db.ids import uuid7
from tests.conftest import DatabaseUrls, House, Owner, Tenant

pytestmark = pytest.mark.promise("IDN-30")
CHANGES = (
    "UPDATE audit SET action = 'nothing'",
    "UPDATE audit SET created_at = now() - interval '1 day' WHERE false",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE false",
    "TRUNCATE audit",
)


async def test_no_role_changes_or_deletes_what_is_in_the_log(
    urls: DatabaseUrls, database: Database, owner: Owner, tenant: Tenant
) -> None:
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        await ledger.audit(connection, tenant.principal, tenant.project_id, "an_act", None)
    before = await owner.fetch("SELECT * FROM audit ORDER BY id")
    ops = await asyncpg.connect(urls.ops)
    try:
        for statement in CHANGES:
            for who in (owner, ops):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await who.execute(statement)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.transaction(tenant.principal, tenant.project_id) as connection:
                    await connection.execute(statement)
    finally:
        await ops.close()
    assert await owner.fetch("SELECT * FROM audit ORDER BY id") == before


async def test_nobody_writes_into_the_log_as_somebody_else_from_elsewhere_or_at_another_time(
    database: Database, house: House, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    mine = {
        "id": f"'{uuid7()}'",
        "credential_id": f"'{stranger.principal.credential_id}'",
        "user_id": f"'{stranger.user_id}'",
        "project_id": "NULL",
        "action": "'an_act'",
    }
    forged = (
        {"user_id": f"'{tenant.user_id}'"},
        {"credential_id": f"'{tenant.principal.credential_id}'"},
        {"project_id": f"'{tenant.project_id}'"},
        {"created_at": "now() - interval '1 year'"},
        {"address": "'10.0.0.1'"},
        {"user_agent": "'another'"},
        {"client": "'another'"},
    )
    for change in ({}, *forged):
        given = {**mine, **change}
        statement = f"INSERT INTO audit ({', '.join(given)}) VALUES ({', '.join(given.values())})"
        try:
            async with database.transaction(stranger.principal, stranger.project_id) as connection:
                await connection.execute(statement)
            written = True
        except asyncpg.InsufficientPrivilegeError:
            written = False
        assert written == (change == {}), change
    assert (
        await owner.fetchval("SELECT count(*) FROM audit WHERE user_id = $1 AND action = 'an_act'", tenant.user_id) == 0
    )


async def test_what_a_browser_says_of_itself_is_words_and_nothing_else(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    """The user agent goes into the statement that begins a transaction."""
    hostile = (
        b"'; DROP TABLE audit; --",
        b"\\'; SELECT pg_sleep(9); --",
        b"' || (SELECT 1) || '",
        b"$$; COMMIT; $$ \x00\r\n\xff\xfe",
        b"x" * 10_000,
    )
    for agent in hostile:
        token = origin.come("203.0.113.9'; --", agent)
        try:
            async with database.transaction(tenant.principal) as connection:
                await ledger.audit(connection, tenant.principal, None, "hostile", None)
        finally:
            origin.leave(token)
    rows = await owner.fetch("SELECT address, user_agent FROM audit WHERE action = 'hostile' ORDER BY id")
    assert len(rows) == len(hostile)
    assert {row["address"] for row in rows} == {"203.0.113.9;--"}
    assert rows[0]["user_agent"] == "; DROP TABLE audit; --"
    assert all(len(row["user_agent"]) <= 160 and "'" not in row["user_agent"] for row in rows)


async def test_what_happens_outside_of_a_request_says_nothing_of_where(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    async with database.transaction(tenant.principal) as connection:
        await ledger.audit(connection, tenant.principal, None, "quiet", None)
    row = await owner.fetchrow("SELECT address, user_agent, client FROM audit WHERE action = 'quiet'")
    assert row is not None
    assert (row["address"], row["user_agent"]) == (None, None)
    assert row["client"].startswith("ik_sk_"), "the first characters of the key, which has no name"
