"""Clients that were not written here go through every flow: npm's oauth4webapi and openid-client, and the official
conformance suite for authorization servers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx2
import pytest

from db.ids import uuid7
from db.oauth import clients
from db.oauth.tokens import SECRET
from db.tokens import new_token, token_hash
from tests import node
from tests.clients.javascript import JavaScript
from tests.conformance import suite
from tests.server.oauth.browsing import at_the_browser
from tests.server.oauth.people import Inn, Person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-41")]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def peers() -> JavaScript:
    folder = HERE / "peers"
    return JavaScript(folder, node.install(folder))


async def service_account(inn: Inn, person: Person) -> dict[str, str]:
    service, secret, client_id = uuid7(), new_token(SECRET), f"service-{uuid7()}"
    await inn.owner.execute("INSERT INTO users (id, email) VALUES ($1, $2)", service, f"{service}@service.test")
    await inn.owner.execute(
        "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'member')",
        *(service, person.projects["One"]),
    )
    await inn.owner.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name, grant_types, auth_method, secret_hash, scopes, user_id)"
        " VALUES ($1, $2, 'registered', 'S', '{client_credentials}', 'client_secret_basic', $3, '{projects:read}', $4)",
        *(uuid7(), client_id, token_hash(secret), service),
    )
    return {"id": client_id, "secret": secret}


@pytest.mark.parametrize("library", ["oauth4webapi", "openid-client"])
async def test_an_oauth_library_runs_every_flow(inn: Inn, person: Person, peers: JavaScript, library: str) -> None:
    async with at_the_browser(person) as url:
        said = await peers.script(
            "flows",
            {
                "library": library,
                "issuer": inn.url,
                "resource": inn.resource,
                "person": url,
                "service": await service_account(inn, person),
            },
        )
    assert said == {
        "scope": "projects:read projects:write",
        "called": 200,
        "calledAgain": 200,
        "afterRevocation": "invalid_grant",
        "waiting": "authorization_pending",
        "device": 200,
        "service": 200,
    }


async def test_the_conformance_suite_finds_nothing_wrong_with_the_authorization_server(
    inn: Inn, person: Person, tmp_path: Path
) -> None:
    port = 20_000 + person.user_id.int % 12_000  # below those that outgoing connections have
    client_id, _ = await clients.create(
        inn.owner, "conformance", redirect_uris=[f"http://127.0.0.1:{port}/callback"], public=True
    )
    process = await suite.start(
        "authorization", "--url", inn.url, "--client-id", client_id, "--resource", inn.resource,
        "-p", str(port), "-o", str(tmp_path),
    )  # fmt: skip
    said = []
    async with asyncio.timeout(60):
        assert process.stdout is not None
        while line := (await process.stdout.readline()).decode():
            said.append(line)
            if found := re.match(r"(http\S+/oauth/authorize\S+)", line.strip()):
                page = await person.browser.get(found[1])
                answer = await person.press(page, "allow")
                # The suite says where to go before it listens there.
                async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=6), timeout=60) as browser:
                    await browser.get(answer.headers["location"], headers={"connection": "close"})
        assert await process.wait() == 0, "".join(said)
    found_checks = suite.checks(tmp_path)
    assert {check.id: check.status for check in found_checks} == {
        "authorization-server-metadata": "SUCCESS",
        "authorization-server-metadata-cimd": "SUCCESS",
        "authorization-code-grant": "SUCCESS",
    }
