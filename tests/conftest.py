"""A real PostgreSQL for every test: one cluster a process, one migrated template, one database a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from agents.engine import RunEngine
from agents.models import ModelFactory
from db import accounts
from db.credentials import Authenticator
from db.database import Database
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from db.principal import Principal
from migrations import runner
from server.limits import allowance
from tests.db.clusters import open_folder
from tests.fakes.memory_store import MemoryStore
from tools.dispatch import Dispatch
from tools.ports import Services

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
pytest_plugins = ["tests.promises", "tests.measured"]
settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def patient_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the database may take its time: what a test has of its budget it gets nevertheless."""
    monkeypatch.setattr(allowance, "ANSWER_SECONDS", 60.0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[EmbeddedPostgres]:
    """A running embedded PostgreSQL whose database ``innkeeper`` is migrated: the template of every test's own."""
    with open_folder() as data:
        running = await EmbeddedPostgres.start(data, progress=lambda _line: None, fast_unsafe=True)
        try:
            await runner.upgrade(running.owner_url)
            yield running
        finally:
            await running.stop()


@dataclass(frozen=True)
class DatabaseUrls:
    """One test's own database, as each role reaches it."""

    owner: str
    app: str
    ops: str
    superuser: str


@pytest_asyncio.fixture
async def urls(cluster: EmbeddedPostgres) -> AsyncIterator[DatabaseUrls]:
    """A fresh, migrated database for this test."""
    async with fresh_database(cluster) as made:
        yield made


@contextlib.asynccontextmanager
async def fresh_database(cluster: EmbeddedPostgres, template: str = "innkeeper") -> AsyncIterator[DatabaseUrls]:
    """A database of its own, for as long as it is needed; migrated, but with another template."""
    name = f"test_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        # Copying its files takes half the time of writing them to the log block by block, which is the default.
        made = f'CREATE DATABASE "{name}" TEMPLATE {template} OWNER innkeeper_owner STRATEGY file_copy'
        await superuser.execute(made)
        roles = ("innkeeper_owner", "innkeeper_app", "innkeeper_ops", "postgres")
        yield DatabaseUrls(*(cluster.url(name, role) for role in roles))
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


@pytest_asyncio.fixture
async def owner(urls: DatabaseUrls) -> AsyncIterator[Owner]:
    """A connection as the owner, who sees every row."""
    connection = await asyncpg.connect(urls.owner)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def unasked(owner: Owner) -> None:
    """Every project of this test, made before or later, lets destructive tools act without asking a person."""
    await owner.execute("ALTER TABLE projects ALTER approval_policy SET DEFAULT 'never'")
    await owner.execute("UPDATE projects SET approval_policy = 'never'")


@pytest_asyncio.fixture
async def database(urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The application role's database, listening."""
    async with opened(urls) as database:
        yield database


@contextlib.asynccontextmanager
async def opened(urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database as another process would open it."""
    database = await Database.open(urls.app, ops_url=urls.ops, min_size=1, max_size=8)
    try:
        await database.listener.wait()
        yield database
    finally:
        await database.close()


@pytest_asyncio.fixture
async def authenticator(database: Database) -> Authenticator:
    authenticator = Authenticator(database)
    await authenticator.start()
    return authenticator


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def services(database: Database, store: MemoryStore) -> Services:
    return Services(database, RunEngine(database, ModelFactory()), store=store)


@pytest.fixture
def dispatch(services: Services) -> Dispatch:
    return Dispatch(services)


@dataclass(frozen=True)
class Tenant:
    """A user with one project and one secret key for everything."""

    user_id: UUID
    project_id: UUID
    token: str
    principal: Principal


class House:
    """Makes tenants and keys on the owner's connection."""

    def __init__(self, owner: Owner, authenticator: Authenticator) -> None:
        self.owner = owner
        self._authenticator = authenticator

    async def tenant(self, name: str = "tenant", *, scopes: list[str] | None = None) -> Tenant:
        user_id = await accounts.create_user(self.owner, f"{uuid7().hex}@example.test", name)
        project_id = uuid7()
        await self.owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, $2, $3)", project_id, f"{name}'s project", user_id
        )
        _key, token = await accounts.create_key(self.owner, user_id, scopes=scopes)
        return Tenant(user_id, project_id, token, await self.principal(token))

    async def key(
        self,
        user_id: UUID,
        *,
        project_id: UUID | None = None,
        scopes: list[str] | None = None,
        read_only: bool = False,
    ) -> str:
        _key, token = await accounts.create_key(
            self.owner, user_id, project_id=project_id, scopes=scopes, read_only=read_only
        )
        return token

    async def member(self, project_id: UUID, role: str) -> Principal:
        """Another user with ``role`` in the project, as its principal."""
        user_id = await accounts.create_user(self.owner, f"{uuid7().hex}@example.test", role)
        await self.owner.execute(
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)", user_id, project_id, role
        )
        return await self.principal(await self.key(user_id))

    async def principal(self, token: str) -> Principal:
        principal = await self._authenticator.authenticate(token)
        assert principal is not None
        return principal


@pytest_asyncio.fixture
async def house(owner: Owner, authenticator: Authenticator) -> House:
    return House(owner, authenticator)


@pytest_asyncio.fixture
async def tenant(house: House) -> Tenant:
    return await house.tenant()


@pytest_asyncio.fixture
async def stranger(house: House) -> Tenant:
    """A second tenant, who must never see anything of the first."""
    return await house.tenant("stranger")


async def living_run(owner: Owner, tenant: Tenant) -> UUID:
    """A run of the tenant's whose lease of epoch 1 is held for an hour, for grants of runs that nobody carries out."""
    thread_id, run_id = uuid7(), uuid7()
    await owner.execute(
        "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, $3)",
        *(tenant.project_id, thread_id, str(thread_id)),
    )
    await owner.execute(
        "INSERT INTO runs (project_id, id, thread_id, external_id, credential_id, user_id, scopes, agent, status,"
        " input, input_digest, lease_owner, lease_epoch, lease_expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, '{}', 'x', 'running', '{}', '', $2, 1, now() + interval '1 hour')",
        *(tenant.project_id, run_id, thread_id, str(run_id), tenant.principal.credential_id, tenant.user_id),
    )
    return run_id


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Return as soon as ``holds`` does; fail after ``seconds``. Asks again at each turn of the event loop."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  any kind of condition, not one that sets an event
            await asyncio.sleep(0)
