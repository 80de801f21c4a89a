"""The composition root: everything the application needs, made from settings and handed over as one frozen value."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agents.engine import RunEngine
from agents.models import ModelFactory
from db.credentials import Authenticator
from db.database import Database
from server.data_directory import DatabaseUrls
from server.integrations.addresses import Addresses
from server.integrations.guarded_http import Outgoing
from server.keyring import Keyring
from server.limits.limits import Limits
from server.limits.rules import rules_of
from server.model_choice import ModelChoice
from server.settings.loading import Settings
from tools.catalog import CATALOG, Catalog
from tools.dispatch import Dispatch
from tools.ports import PagesAt
from tools.ports import Services as ToolServices


@dataclass(frozen=True, slots=True)
class Services:
    """What :func:`server.app.create_app` is built over. Tests make their own."""

    database: Database
    authenticator: Authenticator
    catalog: Catalog
    dispatch: Dispatch
    engine: RunEngine
    models: ModelFactory
    keyring: Keyring
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    metrics_token: str | None = None


@asynccontextmanager
async def build(
    settings: Settings, urls: DatabaseUrls, choice: ModelChoice, *, root_secret: str, public_url: str
) -> AsyncIterator[Services]:
    """Open everything, and close it in the reverse order at the end.

    The engine is handed its way to ``/mcp`` by whoever makes the application: ``services.engine.use(mcp_app)``.
    """
    database = await Database.open(
        urls.app,
        direct_url=urls.direct,
        ops_url=urls.ops,
        min_size=settings.database.pool_min,
        max_size=settings.database.pool_max,
    )
    outside = Outgoing(Addresses(settings.outgoing.private))
    models = ModelFactory(
        default=choice.default,
        platform_keys=choice.platform_keys,
        endpoints=choice.endpoints,
        local=choice.local,
        tenants=outside,
    )
    engine = RunEngine(database, models)
    limits = Limits(database, rules_of(settings))
    token = settings.house.metrics_token
    try:
        authenticator = Authenticator(database)
        await authenticator.start()
        await engine.open()
        dispatch = Dispatch(ToolServices(database, engine, PagesAt(public_url), limits, outside=outside))
        await dispatch.long_writes.listen()
        yield Services(
            database=database,
            authenticator=authenticator,
            catalog=CATALOG,
            dispatch=dispatch,
            engine=engine,
            models=models,
            keyring=Keyring(root_secret.encode()),
            public_url=public_url,
            allowed_hosts=settings.house.allowed_hosts,
            allowed_origins=settings.house.allowed_origins,
            metrics_token=token.get_secret_value() if token else None,
        )
    finally:
        await engine.shutdown(0)
        await models.aclose()
        if choice.local is not None:
            await choice.local.stop()
        await outside.aclose()
        await database.close()
