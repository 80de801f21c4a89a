"""One house for a module, and the issuers with which people sign in there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

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
from tests import node
from tests.fakes.github_server import CLIENT_ID, SECRET, GitHubServer, github
from tests.server.edge_services import served
from tests.server.issuers.house import Browser, House, Peer
from tests.server.oauth.people import Inn

PEERS = Path(__file__).parent.parent / "oauth" / "peers"
OIDC_SECRET = "a secret: that+only/tests%20have"


@pytest.fixture(scope="session")
def peers_folder() -> Path:
    node.install(PEERS)
    return PEERS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers(peers_folder: Path) -> AsyncIterator[dict[str, Peer]]:
    process = await asyncio.create_subprocess_exec(
        node.node(),
        str(peers_folder / "issuers.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=node.environment(),
    )
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(60):
        ports = json.loads(await process.stdout.readline())
    yield {name: Peer(name, f"http://127.0.0.1:{port}") for name, port in ports.items()}
    process.stdin.close()
    async with asyncio.timeout(60):
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def octo() -> AsyncIterator[GitHubServer]:
    async with github() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: EmbeddedPostgres, peers: dict[str, Peer], octo: GitHubServer) -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as stack:
        name = f"test_{uuid7().hex}"
        superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
        stack.push_async_callback(superuser.close)
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        stack.push_async_callback(superuser.execute, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        owner = await asyncpg.connect(cluster.url(name, "innkeeper_owner"))
        stack.push_async_callback(owner.close)
        urls = DatabaseUrls(cluster.url(name, "innkeeper_app"), cluster.url(name, "innkeeper_ops"))
        settings = load(environ_of(peers, octo), environment="development")
        choice = ModelChoice(None, {}, {}, None, "none")
        keyring = Keyring(b"0123456789" * 4)
        services = await stack.enter_async_context(
            build(settings, urls, choice, keyring=keyring, public_url="http://127.0.0.1:1")
        )
        host, port = await stack.enter_async_context(served(create_app(services)))
        await services.database.listener.wait()
        inn = Inn(f"http://{host}:{port}", owner, services, cluster.url(name, "innkeeper_owner"))
        for peer in peers.values():
            await peer.control(redirect_uris=[f"{inn.url}/api/auth/callback/{peer.id}"])
        yield House(inn, peers["google"], peers["acme"], octo)


def environ_of(peers: dict[str, Peer], octo: GitHubServer) -> dict[str, str]:
    """What an operator sets."""
    acme = {"id": "acme", "name": "Acme", "issuer": peers["acme"].url, "client_id": "innkeeper"}
    return {
        "INNKEEPER_SIGN_UP": "open",
        "INNKEEPER_SIGN_UP_BLOCKED_DOMAINS": "bad.example",
        "GITHUB_CLIENT_ID": CLIENT_ID,
        "GITHUB_CLIENT_SECRET": SECRET,
        "GITHUB_BASE_URL": octo.url,
        "GITHUB_API_URL": f"{octo.url}/api/v3",
        "GOOGLE_CLIENT_ID": "innkeeper",
        "GOOGLE_CLIENT_SECRET": OIDC_SECRET,
        "GOOGLE_ISSUER": peers["google"].url,
        "INNKEEPER_OIDC_PROVIDERS": json.dumps([{**acme, "client_secret": OIDC_SECRET}]),
    }


@pytest_asyncio.fixture(loop_scope="module")
async def browser(house: House) -> AsyncIterator[Browser]:
    async with house.browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def other(house: House) -> AsyncIterator[Browser]:
    """Of somebody else."""
    async with house.browser() as browser:
        yield browser


@pytest.fixture
def subject() -> str:
    """A new name at an issuer for each test."""
    return f"s{uuid7().hex}"
