"""The composition root: everything the application needs, made from settings and handed over as one frozen value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agents.engine import RunEngine
from agents.models import ModelFactory
from db.credentials import Authenticator
from db.database import Database
from server.data_directory import DatabaseUrls
from server.http.address import PublicAddress
from server.http.storage_events import BucketEvents
from server.integrations.addresses import Addresses
from server.integrations.embeddings import OPENAI, EmbeddingModel
from server.integrations.guarded_http import Outgoing
from server.integrations.provider_check import ProviderChecks
from server.issuers.catalog import issuers_of
from server.issuers.issuer import Issuer
from server.keyring import Keyring
from server.limits.limits import Limits
from server.limits.newcomers import Newcomers
from server.limits.rules import rules_of
from server.mail.invitations import InvitationMail
from server.mail.post import Post
from server.model_choice import ModelChoice
from server.project_keys import ProjectKeys
from server.roots import process_name
from server.settings.limits import IN_DEVELOPMENT
from server.settings.loading import Settings
from server.settings.sign_in import SignInSettings
from server.site.pages import SayLink
from server.stores import bucket_events, close_store, open_store, storage_rules
from server.vault import Vault
from tools.catalog import CATALOG, Catalog
from tools.consent import Consent
from tools.dispatch import Dispatch
from tools.ports import NO_MEANINGS, PagesAt
from tools.ports import Services as ToolServices
from tools.store import Store


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
    provider_checks: ProviderChecks
    store: Store
    post: Post
    bucket_events: BucketEvents | None = None
    files_url: str | None = None
    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    metrics_token: str | None = None
    client_documents: bool = True
    newcomers: Newcomers | None = None
    loopback_pages: bool = False
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    say_link: SayLink | None = None


def embedding_model(settings: Settings) -> EmbeddingModel | None:
    """The embedding model that the settings name. The platform's key for OpenAI goes to OpenAI alone."""
    chosen, openai = settings.models.embeddings, settings.models.openai
    if chosen.model is None:
        return None
    key = chosen.api_key or (openai.api_key if chosen.base_url is None else None)
    return EmbeddingModel(chosen.model, key.get_secret_value() if key else "none", chosen.base_url or OPENAI)


@asynccontextmanager
async def build(
    settings: Settings,
    urls: DatabaseUrls,
    choice: ModelChoice,
    *,
    keyring: Keyring,
    public_url: str,
    files: Path | None = None,
    say_link: SayLink | None = None,
) -> AsyncIterator[Services]:
    """Open everything, and close it in the reverse order at the end. ``files``: the directory of files, unless the
    settings say otherwise. ``say_link``: how links to sign in with are told where no mail can be sent.

    The engine is handed its way to ``/mcp`` by whoever makes the application: ``services.engine.use(mcp_app)``.
    """
    database = await Database.open(
        urls.app,
        direct_url=urls.direct,
        ops_url=urls.ops,
        min_size=settings.database.pool_min,
        max_size=settings.database.pool_max,
        name=process_name(keyring),
    )
    vault = Vault(keyring)
    outside = Outgoing(Addresses(settings.outgoing.private))
    models = ModelFactory(
        default=choice.default,
        platform_keys=choice.platform_keys,
        endpoints=choice.endpoints,
        local=choice.local,
        tenants=outside,
        keys=ProjectKeys(database, vault),
    )
    engine = RunEngine(database, models)
    limits = Limits(database, rules_of(settings))
    meanings = embedding_model(settings)
    post = Post(settings.mail, keyring, public_url)
    token = settings.house.metrics_token
    store = await open_store(settings, files, keyring, public_url)
    try:
        authenticator = Authenticator(database, PublicAddress(public_url).accepts)
        await authenticator.start()
        await engine.open()
        reached = ToolServices(
            database,
            engine,
            PagesAt(public_url),
            limits,
            store,
            storage_rules(settings),
            outside=outside,
            mail=post.rules,
            invitations=InvitationMail(post),
            meanings=meanings or NO_MEANINGS,
        )
        dispatch = Dispatch(reached)
        engine.ask(Consent(reached, CATALOG))
        await dispatch.long_writes.listen()
        yield Services(
            database=database,
            authenticator=authenticator,
            catalog=CATALOG,
            dispatch=dispatch,
            engine=engine,
            models=models,
            keyring=keyring,
            provider_checks=ProviderChecks(outside),
            store=store,
            bucket_events=bucket_events(settings),
            files_url=settings.files.url,
            post=post,
            public_url=public_url,
            allowed_hosts=settings.house.allowed_hosts,
            allowed_origins=settings.house.allowed_origins,
            metrics_token=token.get_secret_value() if token else None,
            client_documents=settings.sign_in.client_documents,
            loopback_pages=not settings.production,
            newcomers=Newcomers(database, more=1 if settings.production else IN_DEVELOPMENT),
            sign_in=settings.sign_in,
            issuers=issuers_of(settings.oauth),
            say_link=say_link,
        )
    finally:
        await engine.shutdown(0)
        await models.aclose()
        if choice.local is not None:
            await choice.local.stop()
        await post.aclose()
        if meanings is not None:
            await meanings.aclose()
        await outside.aclose()
        await close_store(store)
        await database.close()
