"""A whole house on a socket, over a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from starlette.applications import Starlette

from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from server.app import create_app
from server.data_directory import DatabaseUrls
from server.keyring import Keyring
from server.model_choice import ModelChoice
from server.services import Services, build
from server.settings.loading import load
from server.site.pages import SayLink
from tests.server.edge_services import served
from tests.server.oauth.people import Inn


@asynccontextmanager
async def house(
    cluster: EmbeddedPostgres, environ: Mapping[str, str] | None = None, *, say_link: SayLink | None = None
) -> AsyncIterator[Inn]:
    """``say_link``: how links to sign in with are told."""
    name = f"test_{uuid7().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        owner = await asyncpg.connect(cluster.url(name, "innkeeper_owner"))
        urls = DatabaseUrls(cluster.url(name, "innkeeper_app"), cluster.url(name, "innkeeper_ops"))
        choice = ModelChoice(None, {}, {}, None, "none")
        settings = load(dict(environ or {}), environment="development")
        keyring = Keyring(b"0123456789" * 4)
        async with (
            build(
                settings, urls, choice, keyring=keyring, public_url="http://127.0.0.1:1", say_link=say_link
            ) as services,
            _app(services) as (app, url),
        ):
            await services.database.listener.wait()
            yield Inn(url, owner, services, cluster.url(name, "innkeeper_owner"), app)
        await owner.close()
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


@asynccontextmanager
async def _app(services: Services) -> AsyncIterator[tuple[Starlette, str]]:
    app = create_app(services)
    async with served(app) as (host, port):
        yield app, f"http://{host}:{port}"
