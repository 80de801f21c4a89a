"""A product and its users: one house on a socket for a module, an issuer of tokens, and pages in browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from server.app import create_app
from server.data_directory import DatabaseUrls
from server.keyring import Keyring
from server.model_choice import ModelChoice
from server.services import build
from server.settings.loading import load
from tests.server.edge_services import served
from tests.server.end_users.issuers import Issuer
from tests.server.end_users.products import House, Product


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    name = f"test_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        owner = await asyncpg.connect(cluster.url(name, "innkeeper_owner"))
        urls = DatabaseUrls(cluster.url(name, "innkeeper_app"), cluster.url(name, "innkeeper_ops"))
        choice = ModelChoice(None, {}, {}, None, "none")
        settings = load({"INNKEEPER_ALLOW_PRIVATE_URLS": "127.0.0.0/8"}, environment="development")
        keyring = Keyring(b"0123456789" * 4)
        files = tmp_path_factory.mktemp("files")
        public = "http://127.0.0.1:1"
        async with build(settings, urls, choice, keyring=keyring, public_url=public, files=files) as services:
            app = create_app(services)
            services.engine.use(app.state.mcp_app)
            await services.database.listener.wait()
            async with served(app) as (host, port):
                yield House(f"http://{host}:{port}", owner, services)
        await owner.close()
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    """One with a path, as most companies' are."""
    async with Issuer.opened("/tenants/acme") as issuer:
        yield issuer


@pytest_asyncio.fixture(loop_scope="module")
async def product(house: House) -> Product:
    return await Product.made(house)


@pytest_asyncio.fixture(loop_scope="module")
async def other(house: House) -> Product:
    """Another project, of other people."""
    return await Product.made(house)
