"""Runs are paid with their project's own keys, which the database lets only its administrators write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from db import provider_keys
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from server.keyring import Keyring
from server.project_keys import ProjectKeys
from server.vault import Vault
from tests.agents.inn import KEYRING, Inn, body, inn, run, user
from tests.conftest import DatabaseUrls, House, Owner, Tenant
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.outside import reaching_loopback

pytestmark = pytest.mark.promise("GND-03")

VAULT = Vault(KEYRING)


async def enter(
    database: Database,
    person: Principal,
    project_id: UUID,
    provider: str,
    key: str,
    *,
    base_url: str | None = None,
    vault: Vault = VAULT,
) -> None:
    """As the page does."""
    async with database.transaction(person, project_id) as connection:
        await provider_keys.put(
            connection,
            project_id,
            provider,
            key_id=uuid7(),
            base_url=base_url,
            sealed=vault.seal(project_id, provider_keys.SEALED, key, provider),
            hint=key[-4:],
            created_by=person.user_id,
            checked=True,
        )


@pytest_asyncio.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest_asyncio.fixture
async def house_open(urls: DatabaseUrls) -> AsyncIterator[Inn]:
    async with inn(urls) as opened:
        yield opened


async def at_its_own(owner: Owner, tenant: Tenant, base_url: str, model: str = "openai-chat:their-own") -> None:
    await owner.execute(
        "UPDATE projects SET model = $1, base_url = $2 WHERE id = $3", model, base_url, tenant.project_id
    )


async def test_a_run_is_paid_with_the_key_that_is_there_when_it_starts_on_every_process(
    house_open: Inn, urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    database, project = house_open.database, tenant.project_id
    await at_its_own(owner, tenant, model.base_url)

    async with inn(urls) as another:
        for process, key in ((house_open, "sk-first"), (another, "sk-second"), (house_open, "sk-third")):
            await enter(database, tenant.principal, project, "compatible", key, base_url=model.base_url)
            await run(process, tenant.token, body(user("Hello")))
        async with database.transaction(tenant.principal, project) as connection:
            assert await provider_keys.delete(connection, project, "compatible") is not None
        await run(another, tenant.token, body(user("Hello")))

    keys = [request.authorization for request in model.requests]
    assert keys == ["Bearer sk-first", "Bearer sk-second", "Bearer sk-third", "Bearer no-key"]


async def test_a_key_goes_to_no_other_base_url_than_the_one_it_was_entered_for(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await at_its_own(owner, tenant, model.base_url)
    for provider, base_url in (("compatible", "https://llm.example.test/v1"), ("openai", None)):
        await enter(house_open.database, tenant.principal, tenant.project_id, provider, "sk-mine", base_url=base_url)

    moved = await run(house_open, tenant.token, body(user("Hello")))
    await owner.execute("DELETE FROM provider_keys WHERE provider = 'compatible'")
    await at_its_own(owner, tenant, model.base_url, "openai:gpt-5")
    openai = await run(house_open, tenant.token, body(user("Hello")))

    assert moved.last["code"] == "provider_key_elsewhere"
    assert openai.last["code"] == "model_not_configured"
    assert model.requests == []


async def test_the_projects_own_key_comes_before_the_platforms(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    await enter(database, tenant.principal, tenant.project_id, "openai", "sk-mine")
    factory = ModelFactory(
        default=ModelSpec("openai:gpt-5"),
        platform_keys={"openai": "sk-platform"},
        tenants=reaching_loopback(),
        keys=ProjectKeys(database, VAULT),
    )
    async with aclosing(factory):
        for named in ("openai:gpt-5", "openai-chat:gpt-5", ""):
            mine = await factory.prepared(ModelSpec(named, project_id=tenant.project_id), tenant.principal)
            theirs = await factory.prepared(ModelSpec(named, project_id=stranger.project_id), stranger.principal)
            foreign = await factory.prepared(ModelSpec(named, project_id=tenant.project_id), stranger.principal)
            assert (mine.api_key, theirs.api_key, foreign.api_key) == ("sk-mine", "sk-platform", "sk-platform")


async def test_what_the_operator_configured_never_gets_a_projects_key(
    urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel
) -> None:
    async with inn(urls, model_url=model.base_url) as house:
        await enter(house.database, tenant.principal, tenant.project_id, "openai", "sk-mine")
        await run(house, tenant.token, body(user("Hello")))

    assert model.requests[0].authorization == "Bearer no-key"


async def test_a_key_under_a_root_that_is_gone_ends_the_run_with_what_is_missing(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    await at_its_own(owner, tenant, model.base_url)
    lost = Keyring(b"a root that was lost")
    await enter(
        *(house_open.database, tenant.principal, tenant.project_id, "compatible", "sk-mine"),
        base_url=model.base_url,
        vault=Vault(lost),
    )

    stream = await run(house_open, tenant.token, body(user("Hello")))

    assert stream.last["code"] == "secret_key_missing"
    assert lost.key_id in stream.last["message"]
    assert model.requests == []


@pytest.mark.parametrize("role", ["member", "viewer"])
async def test_only_owners_and_admins_write_keys_and_members_see_that_they_are_there(
    database: Database, house: House, tenant: Tenant, owner: Owner, role: str
) -> None:
    admin = await house.member(tenant.project_id, "admin")
    await enter(database, admin, tenant.project_id, "openai", "sk-mine")
    before = await owner.fetch("SELECT * FROM provider_keys")
    member = await house.member(tenant.project_id, role)

    for provider in ("openai", "anthropic"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await enter(database, member, tenant.project_id, provider, "sk-theirs")
    async with database.transaction(member, tenant.project_id) as connection:
        assert await provider_keys.delete(connection, tenant.project_id, "openai") is None
        seen = await provider_keys.latest(connection, tenant.project_id)

    assert [row["provider"] for row in seen] == ["openai"]
    assert "sealed" not in seen[0]
    assert await owner.fetch("SELECT * FROM provider_keys") == before


async def test_another_tenant_neither_reads_nor_writes_them(
    database: Database, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    await enter(database, tenant.principal, tenant.project_id, "openai", "sk-mine")

    assert await provider_keys.read(database, stranger.principal, tenant.project_id, "openai") is None
    async with database.transaction(stranger.principal, tenant.project_id) as connection:
        assert await connection.fetch("SELECT * FROM provider_keys") == []
        assert await connection.execute("UPDATE provider_keys SET hint = ''") == "UPDATE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await enter(database, stranger.principal, tenant.project_id, "anthropic", "sk-theirs")
    with pytest.raises(AppError, match="moved"):
        VAULT.open(stranger.project_id, provider_keys.SEALED, await sealed(owner), "openai")


async def sealed(owner: Owner) -> bytes:
    found: bytes = await owner.fetchval("SELECT sealed FROM provider_keys")
    return found
