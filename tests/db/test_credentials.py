from __future__ import annotations

import asyncio
import statistics
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from db import accounts
from db.credentials import Authenticator
from db.database import Database
from db.embedded.cluster import EmbeddedPostgres
from db.errors import AppError
from db.tokens import new_token
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually, opened
from tests.machine import Stopwatch, within

pytestmark = pytest.mark.promise("HOME-32")


async def refuses(authenticator: Authenticator, tenant: Tenant) -> bool:
    known = await authenticator.authenticate(tenant.token) is not None
    return not known and not await authenticator.still_valid(tenant.principal)


async def no_longer(database: Database) -> bool:
    return not database.listener.listening


async def test_a_key_becomes_its_caller_with_exactly_its_rights(
    house: House, tenant: Tenant, authenticator: Authenticator
) -> None:
    token = await house.key(tenant.user_id, project_id=tenant.project_id, scopes=["projects:read"], read_only=True)

    principal = await authenticator.authenticate(token)

    assert principal is not None
    assert (principal.user_id, principal.project_id) == (tenant.user_id, tenant.project_id)
    assert principal.scopes == {"projects:read"}
    assert principal.read_only


async def test_unknown_revoked_expired_and_disabled_are_all_nobody(
    owner: Owner, tenant: Tenant, authenticator: Authenticator
) -> None:
    key, revoked = await accounts.create_key(owner, tenant.user_id)
    await accounts.revoke_key(owner, str(key))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    _key, expired = await accounts.create_key(owner, tenant.user_id, expires_at=yesterday)

    assert await authenticator.authenticate("ik_sk_" + "0" * 49) is None
    assert await authenticator.authenticate(revoked) is None
    assert await authenticator.authenticate(expired) is None
    await owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", tenant.user_id)
    await eventually(lambda: refuses(authenticator, tenant))


async def test_only_the_hash_of_a_key_is_stored(owner: Owner, tenant: Tenant) -> None:
    row = await owner.fetchrow("SELECT * FROM credentials WHERE id = $1", tenant.principal.credential_id)

    assert row is not None
    assert tenant.token not in str(dict(row))
    assert len(row["token_hash"]) == 32


async def test_a_revocation_reaches_every_process_within_100_ms(
    owner: Owner, urls: DatabaseUrls, house: House, cluster: EmbeddedPostgres
) -> None:
    async with opened(urls) as one, opened(urls) as other:
        processes = [Authenticator(one), Authenticator(other)]
        for process in processes:
            await process.start()

        async def p99() -> float:
            return statistics.quantiles([await delay() for _ in range(50)], n=100)[98]

        async def delay() -> float:
            victim = await house.tenant()
            for process in processes:
                assert await process.authenticate(victim.token) is not None
                assert await process.still_valid(victim.principal)
            await accounts.revoke_key(owner, victim.token)
            watch = Stopwatch(cluster.pid)
            for process in processes:
                await eventually(partial(refuses, process, victim))
            return watch.seconds()

        await within(0.1, p99)


async def test_nothing_is_taken_from_memory_while_revocations_cannot_be_heard(
    owner: Owner, urls: DatabaseUrls, house: House
) -> None:
    victim = await house.tenant()
    superuser = await asyncpg.connect(urls.superuser)
    async with opened(urls) as database:
        authenticator = Authenticator(database)
        await authenticator.start()
        assert await authenticator.authenticate(victim.token) is not None
        listening = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'innkeeper'"
        )
        await superuser.execute("ALTER ROLE innkeeper_app CONNECTION LIMIT 0")
        try:
            for row in await superuser.fetch(listening):
                await superuser.execute("SELECT pg_terminate_backend($1)", row["pid"])
            await eventually(lambda: no_longer(database))
            await owner.execute("UPDATE credentials SET revoked_at = now() WHERE token_hash IS NOT NULL")

            assert await authenticator.authenticate(victim.token) is None
            assert not await authenticator.still_valid(victim.principal)
        finally:
            await superuser.execute("ALTER ROLE innkeeper_app CONNECTION LIMIT -1")
            await superuser.close()
        async with asyncio.timeout(60):
            await database.listener.wait()
        assert await authenticator.authenticate(victim.token) is None


async def test_the_first_account_is_made_once_however_often_a_start_is_repeated(owner: Owner) -> None:
    token = new_token()
    first = await accounts.first_account(owner, token)
    again = await accounts.first_account(owner, token)

    assert first == again
    assert await owner.fetchval("SELECT count(*) FROM credentials") == 1
    assert await owner.fetchval("SELECT count(*) FROM projects") == 1


async def test_a_key_with_an_unknown_scope_is_refused_with_the_known_ones(owner: Owner, tenant: Tenant) -> None:
    with pytest.raises(AppError, match="Unknown scope: everything") as caught:
        await accounts.create_key(owner, tenant.user_id, scopes=["everything"])

    assert caught.value.hint is not None
    assert "projects:read" in caught.value.hint
