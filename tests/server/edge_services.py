"""A whole ``Services`` without a database, for tests of the edges alone, and a real server on a real socket for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

import tools.ports
from db.database import PoolStats
from db.errors import unavailable
from db.ids import uuid7
from db.principal import Principal
from db.scopes import ALL_SCOPES
from server.app import create_app
from server.http.storage_events import BucketEvents
from server.integrations.provider_check import ProviderChecks
from server.keyring import Keyring
from server.mail.post import Post
from server.settings.loading import load
from server.settings.sign_in import SignInSettings
from tests.prompt_server import PromptServer
from tests.server.edge_tools import EDGE_RESOURCES, EDGE_TOOLS
from tools.catalog import Catalog
from tools.dispatch import Dispatch
from tools.outside import NOTHING_OUTSIDE
from tools.store import NO_STORE, Store

if TYPE_CHECKING:
    from db.database import Database
    from server.services import Services

READ_KEY = "reader"
FULL_KEY = "full"


def principal(*scopes: str, project_id: UUID | None = None, read_only: bool = False) -> Principal:
    return Principal(
        credential_id=uuid7(),
        user_id=uuid7(),
        project_id=project_id,
        end_user_id=None,
        scopes=frozenset(scopes or ALL_SCOPES),
        read_only=read_only,
    )


@dataclass
class KnownTokens:
    """An authenticator over a dictionary; revoking is removing."""

    tokens: dict[str, Principal] = field(
        default_factory=lambda: {FULL_KEY: principal(), READ_KEY: principal("projects:read", "runs:read")}
    )
    away: bool = False

    async def authenticate(self, token: str) -> Principal | None:
        if self.away:
            raise unavailable()
        return self.tokens.get(token)

    async def publishable(self, key: str) -> Principal | None:
        return None

    def recall(self, known_as: bytes) -> Principal | None:
        return None

    async def still_valid(self, grant: Principal) -> bool:
        return any(known.credential_id == grant.credential_id for known in self.tokens.values())

    def watching(self, principal: Principal, doubt: Callable[[bool], None]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


@dataclass
class PingedDatabase:
    """A database that can be pinged, and can be away or hang."""

    away: bool = False
    hangs: bool = False

    def stats(self) -> PoolStats:
        return PoolStats(size=3, idle=2, limit=10)

    def ops(self) -> Any:
        raise unavailable()

    async def ping(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise unavailable()


@dataclass
class EdgeServices:
    catalog: Catalog
    dispatch: Dispatch
    authenticator: KnownTokens = field(default_factory=KnownTokens)
    database: PingedDatabase = field(default_factory=PingedDatabase)
    engine: Any = field(default_factory=lambda: SimpleNamespace(states=lambda: {"live": 0}))
    keyring: Keyring = field(default_factory=lambda: Keyring(b"a root that only tests have"))
    post: Post = field(default_factory=lambda: post_of({}))
    provider_checks: ProviderChecks = field(default_factory=lambda: ProviderChecks(NOTHING_OUTSIDE))
    store: Store = NO_STORE
    bucket_events: BucketEvents | None = None
    files_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    public_url: str | None = None
    metrics_token: str | None = None
    client_documents: bool = True
    newcomers: Any = None
    loopback_pages: bool = False
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    issuers: Mapping[str, Any] = field(default_factory=dict)
    say_link: Any = None


def post_of(environ: Mapping[str, str], public_url: str = "https://inn.example.test") -> Post:
    """The post as ``environ`` configures it; by default nothing leaves."""
    keyring = Keyring(b"a root that only tests have")
    return Post(load(dict(environ), environment="development").mail, keyring, public_url)


@contextlib.asynccontextmanager
async def served(app: ASGIApp, port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """``app`` on a loopback socket, with the HTTP parser production uses; yields host and port."""
    # With the protocol named, asyncio turns Nagle's algorithm off; else each answer waits 40 ms for an ACK.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False, proxy_headers=False)
    server = PromptServer(config)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        async with asyncio.timeout(60):
            await server.listening.wait()
        yield bound.getsockname()
    finally:
        server.end()
        async with asyncio.timeout(60):
            await running
        bound.close()


@contextlib.asynccontextmanager
async def client_of(app: ASGIApp, token: str | None = FULL_KEY) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client over a real socket, with MCP's usual headers."""
    headers = {"accept": "application/json, text/event-stream"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    async with (
        served(app) as (host, port),
        httpx2.AsyncClient(base_url=f"http://{host}:{port}", headers=headers, timeout=60) as client,
    ):
        yield client


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC error of an answer."""
    return dict(response.json()["error"])


class NoDatabase:
    """Says at once that a test of the edge reached further than it should."""

    def transaction(self, *args: object, **kwargs: object) -> object:
        raise AssertionError("an edge test opened a transaction")


def edge_services(**changes: Any) -> EdgeServices:
    """Test tools in a real catalog behind the real dispatch."""
    catalog = Catalog(EDGE_TOOLS, EDGE_RESOURCES)
    dispatch = Dispatch(tools.ports.Services(cast("Database", NoDatabase()), tools.ports.NoRuns()), catalog)
    return EdgeServices(catalog, dispatch, **changes)


def edge_app(services: EdgeServices) -> Starlette:
    """The application over services that are a test's own."""
    return create_app(cast("Services", services))
