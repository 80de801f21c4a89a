"""npm's oidc-provider, below a path, as the issuer of a product's users: every kind of token that it has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from tests import node
from tests.clients.javascript import JavaScript
from tests.server import oauth
from tests.server.end_users.products import ACCESS, Product

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-20")]
PEERS = Path(oauth.__file__).parent / "peers"
ID_TOKEN = ACCESS.replace("access_token", "id_token")


@dataclass
class Provider:
    url: str
    issuer: str

    async def mint(self, kind: str) -> str:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            return (await http.get(f"{self.url}/mint", params={"kind": kind})).text

    async def rotate(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            await http.post(f"{self.url}/rotate")


@asynccontextmanager
async def provided() -> AsyncIterator[Provider]:
    node.install(PEERS)
    process = await asyncio.create_subprocess_exec(
        *(node.node(), str(PEERS / "product.mjs")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            yield Provider(**json.loads(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


async def test_id_tokens_and_access_tokens_of_a_real_issuer_with_a_path_are_exchanged(
    product: Product, provider: Provider
) -> None:
    await product.trust("issuer", issuer=provider.issuer, audience="shop")
    tokens = [
        await product.token(await provider.mint("id_token"), subject_token_type=ID_TOKEN),
        await product.token(await provider.mint("access_token")),
    ]
    found = [await product.house.services.authenticator.authenticate(token) for token in tokens]
    assert found[0] is not None
    assert found[0] == found[1]
    refused = await product.exchange(await provider.mint("opaque"))
    assert refused.json()["error"] == "invalid_request"


@pytest.mark.parametrize("library", ["oauth4webapi", "openid-client"])
async def test_an_oauth_library_exchanges_a_token_with_a_projects_key(
    product: Product, provider: Provider, library: str
) -> None:
    await product.trust("issuer", issuer=provider.issuer, audience="shop")
    task = {
        "library": library,
        "issuer": product.house.url,
        "project": str(product.project_id),
        "key": product.secret,
        "token": await provider.mint("id_token"),
    }
    seen = await JavaScript(PEERS, node.install(PEERS)).script("exchange", task)
    assert seen["refused"] == "invalid_request"
    assert seen["said"]["issued_token_type"] == ACCESS
    assert await product.house.services.authenticator.authenticate(seen["said"]["access_token"]) is not None


async def test_a_token_for_another_api_of_a_real_issuer_is_refused(product: Product, provider: Provider) -> None:
    await product.trust("issuer", issuer=provider.issuer, audience="another")
    for kind in ("id_token", "access_token"):
        answer = await product.exchange(await provider.mint(kind))
        assert "aud is another one" in answer.json()["error_description"]


async def test_an_opaque_token_of_a_real_issuer_is_asked_about_at_its_userinfo(
    product: Product, provider: Provider
) -> None:
    await product.trust("userinfo", url=f"{provider.issuer}/me")
    answer = await product.exchange(await provider.mint("opaque"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] <= 300
    assert (await product.exchange("made-up")).json()["error"] == "invalid_request"


async def test_a_real_issuer_that_has_changed_its_keys_is_believed_again_at_once(product: Product) -> None:
    async with provided() as changing:
        await product.trust("issuer", issuer=changing.issuer, audience="shop")
        old = await changing.mint("id_token")
        await changing.rotate()
        assert (await product.exchange(await changing.mint("id_token"))).status_code == 200
        assert (await product.exchange(old)).json()["error"] == "invalid_request"
