"""One house for the whole folder: its own database, a key for everything, the services of production."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import asyncpg
import pytest_asyncio
from starlette.applications import Starlette
from starlette.types import ASGIApp

from db import accounts
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from server.app import create_app
from server.data_directory import DatabaseUrls
from server.keyring import Keyring
from server.mcp.asking import Asking
from server.model_choice import ModelChoice
from server.services import Services, build
from server.settings.loading import load
from tests.conformance.profile import mount, profile_catalog
from tests.conformance.sessions import with_sessions
from tests.server.edge_services import served
from tools.dispatch import Dispatch


@dataclass(frozen=True)
class Inn:
    """The services of a real server, a key that may do everything, and one that may only read projects."""

    services: Services
    token: str = field(repr=False)
    reader: str = field(repr=False)

    def production(self) -> Starlette:
        """The application as it is shipped."""
        return create_app(self.services)

    def profile(self, *, sessions: bool = False) -> Starlette:
        """The same application with the fixtures of the official suite."""
        catalog = profile_catalog()
        dispatch = Dispatch(self.services.dispatch.services, catalog)
        app = create_app(replace(self.services, catalog=catalog, dispatch=dispatch))
        mount(app, catalog, Asking(self.services.keyring))
        if sessions:
            with_sessions(app, catalog)
        return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inn(cluster: EmbeddedPostgres) -> AsyncIterator[Inn]:
    name = f"test_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        owner = await asyncpg.connect(cluster.url(name, "innkeeper_owner"))
        user_id = await accounts.create_user(owner, f"{uuid7().hex}@example.test", "conformance")
        _key, token = await accounts.create_key(owner, user_id, scopes=None)
        _key, reader = await accounts.create_key(owner, user_id, scopes=["projects:read"])
        await owner.close()
        urls = DatabaseUrls(cluster.url(name, "innkeeper_app"), cluster.url(name, "innkeeper_ops"))
        choice = ModelChoice(None, {}, {}, None, "none")
        settings = load({}, environment="development")
        keyring = Keyring(b"0123456789" * 4)
        async with build(settings, urls, choice, keyring=keyring, public_url="http://localhost") as services:
            yield Inn(services, token, reader)
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


@contextlib.asynccontextmanager
async def at(app: ASGIApp) -> AsyncIterator[str]:
    """The URL of the MCP endpoint of ``app`` on a free port."""
    async with served(app) as (_host, port):
        yield f"http://localhost:{port}/mcp"
