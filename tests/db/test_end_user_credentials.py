"""What end users prove themselves with: credentials by a key, their tokens and sessions, and when these end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from db import accounts, end_users
from db.credentials import Authenticator
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.scopes import HELD_BY_END_USERS
from db.transaction import Transaction
from tests.conftest import House, Owner, Tenant, eventually
from tests.db.product import Product

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.promise("IDN-21")


async def test_what_end_users_have_ends_with_their_key(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    assert await authenticator.authenticate(issued.token) is not None

    await accounts.revoke_key(owner, str(product.key_id))

    async def forgotten() -> bool:
        return await authenticator.authenticate(issued.token) is None

    await eventually(forgotten)
    assert not await authenticator.still_valid(product.ann)
    with pytest.raises(AppError) as refused:
        await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    assert refused.value.code == "invalid_client"


async def test_no_token_is_issued_past_a_key_that_is_just_being_revoked(
    owner: Owner, database: Database, product: Product
) -> None:
    async with owner.transaction():
        await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", product.key_id)
        issuing = asyncio.create_task(
            end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
        )

        async def waits() -> bool:
            return bool(await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(waits)
    with pytest.raises(AppError) as refused:
        await issuing
    assert refused.value.code == "invalid_client"
    live = "SELECT count(*) FROM credentials WHERE kind = 'end_user' AND revoked_at IS NULL"
    assert await owner.fetchval(live) == 0


async def test_fifty_exchanges_at_once_for_one_user_make_one_user_and_one_credential(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    issuing = (end_users.issue(database, product.key, project, issuer="", name="cat") for _ in range(50))
    issued = await asyncio.gather(*issuing)
    assert len({one.end_user_id for one in issued}) == 1
    assert len({one.token for one in issued}) == 50
    held = "SELECT count(*) FROM credentials WHERE end_user_id = $1"
    assert await owner.fetchval(held, issued[0].end_user_id) == 1


async def test_only_keys_may_name_end_users(owner: Owner, database: Database, product: Product) -> None:
    tenant = product.tenant
    first = await end_users.named(database, tenant.principal, tenant.project_id, "u1")
    assert await end_users.named(database, tenant.principal, tenant.project_id, "u1") == first
    client = uuid7()
    await owner.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name) VALUES ($1, 'c', 'registered', 'C')", client
    )
    await owner.execute(
        "UPDATE credentials SET kind = 'oauth', client_id = $2, token_hash = NULL WHERE id = $1",
        *(tenant.principal.credential_id, client),
    )
    for caller in (tenant.principal, product.ann):
        with pytest.raises(AppError):
            await end_users.named(database, caller, tenant.project_id, "u1")


async def test_a_token_outlives_neither_its_source_nor_its_key_nor_an_hour(
    owner: Owner, database: Database, tenant: Tenant
) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    _id, key = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id)
    _id, short = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id, expires_at=soon)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for used, until, most in ((key, soon, 300), (key, tomorrow, 3600), (short, tomorrow, 300), (key, None, 3600)):
        issued = await end_users.issue(database, used, tenant.project_id, issuer="", name="ann", until=until)
        assert most - 10 <= issued.seconds <= most
    with pytest.raises(AppError) as refused:
        await end_users.issue(database, key, tenant.project_id, issuer="", name="ann", until=datetime.now(UTC))
    assert refused.value.message == "The subject_token has expired."


async def test_the_same_name_of_two_issuers_is_two_people(database: Database, product: Product) -> None:
    project = product.tenant.project_id
    found = [
        (await end_users.issue(database, product.key, project, issuer=issuer, name="ann")).end_user_id
        for issuer in ("https://idp.test", "https://other.test", end_users.UNVERIFIED, "https://idp.test")
    ]
    assert found[0] == found[3] == product.ann.end_user_id
    assert len(set(found)) == 3
    named = await end_users.named(database, product.tenant.principal, project, "ann")
    assert named not in found


async def test_an_end_user_has_one_credential_by_a_key_while_tokens_change(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(
        database, product.key, product.tenant.project_id, issuer="https://idp.test", name="ann"
    )
    again = await authenticator.authenticate(issued.token)
    assert again == product.ann
    assert again.scopes == HELD_BY_END_USERS


async def test_what_goes_on_outlasts_a_token_and_ends_with_the_key(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    cat = await authenticator.authenticate(issued.token)
    assert cat is not None
    await owner.execute("UPDATE end_user_tokens SET expires_at = now()")
    assert await Authenticator(database).authenticate(issued.token) is None
    assert await Authenticator(database).still_valid(cat)
    await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", product.key_id)
    assert not await Authenticator(database).still_valid(cat)


async def test_a_token_is_looked_up_in_one_query(
    database: Database, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    asked = []
    real = database.system

    def counted() -> Transaction:
        asked.append(1)
        return real()

    monkeypatch.setattr(database, "system", counted)
    authenticator = Authenticator(database)
    for _ in range(3):
        assert await authenticator.authenticate(issued.token) is not None
    assert len(asked) == 1


async def test_a_secret_key_lends_its_end_users_no_more_than_it_has(
    database: Database, tenant: Tenant, house: House, authenticator: Authenticator
) -> None:
    key = await house.key(tenant.user_id, project_id=tenant.project_id, scopes=["runs:read", "projects:write"])
    issued = await end_users.issue(database, key, tenant.project_id, issuer="", name="ann")
    assert issued.scopes == ("runs:read",)
    reader = await house.key(tenant.user_id, project_id=tenant.project_id, read_only=True)
    assert await end_users.find_exchange(database, reader) is None


async def test_a_key_exchanges_in_no_other_project(database: Database, product: Product, stranger: Tenant) -> None:
    assert await end_users.find_exchange(database, product.key, stranger.project_id) is None
    assert await end_users.find_exchange(database, product.tenant.token, stranger.project_id) is None
    with pytest.raises(AppError):
        await end_users.issue(database, product.key, stranger.project_id, issuer="", name="ann")
    with pytest.raises(AppError) as refused:
        await end_users.named(database, product.tenant.principal, stranger.project_id, "ann")
    assert refused.value.code == "project_not_found"


async def test_a_visitor_goes_on_with_their_session_for_a_month_after_each_use(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    begun = await end_users.begin_session(database, product.key, project)
    assert begun.session is not None
    resumed = await end_users.resume_session(database, product.key, project, begun.session)
    assert resumed.end_user_id == begun.end_user_id
    other = await end_users.begin_session(database, product.key, project)
    assert other.end_user_id != begun.end_user_id

    await owner.execute("UPDATE end_users SET seen_at = now() - interval '31 days' WHERE id = $1", begun.end_user_id)
    with pytest.raises(AppError) as refused:
        await end_users.resume_session(database, product.key, project, begun.session)
    assert refused.value.code == "invalid_request"


async def test_what_has_had_its_time_is_cleaned_away_and_what_somebody_left_is_kept(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    gone = await end_users.begin_session(database, product.key, project)
    talked = await end_users.begin_session(database, product.key, project)
    fresh = await end_users.begin_session(database, product.key, project)
    await owner.execute(
        "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'talk')",
        *(project, uuid7(), talked.end_user_id),
    )
    old = [gone.end_user_id, talked.end_user_id]
    await owner.execute("UPDATE end_users SET seen_at = now() - interval '31 days' WHERE id = ANY ($1)", old)
    await owner.execute(
        "UPDATE end_user_tokens t SET expires_at = now() - interval '1 day' FROM credentials c"
        " WHERE c.id = t.credential_id AND c.end_user_id = ANY ($1)",
        old,
    )
    for _ in range(3):
        async with database.ops() as connection:
            await connection.fetchval("SELECT clean_end_users(100)")
    left = {row["id"] for row in await owner.fetch("SELECT id FROM end_users")}
    assert left == {talked.end_user_id, fresh.end_user_id, product.ann.end_user_id, product.ben.end_user_id}
    assert await owner.fetchval("SELECT count(*) FROM credentials WHERE end_user_id = ANY ($1)", old) == 0
