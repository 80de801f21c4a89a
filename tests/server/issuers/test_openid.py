"""What an issuer of OpenID Connect may not say: each ID token that is not exactly right opens nothing."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from time import time
from typing import Any

import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import OctKey
from starlette.responses import RedirectResponse, Response

from server.issuers import http
from server.issuers.openid import OpenIdIssuer
from tests.fakes.openid_server import CLIENT_ID, OpenIdServer, new_key, openid
from tests.server.issuers.house import Browser, House

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-01")]
SECRET = "the-secret-that-both-have-and-only-tests-use"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[OpenIdServer]:
    async with openid() as server:
        yield server


def issuer_of(server: OpenIdServer, **changes: Any) -> OpenIdIssuer:
    return OpenIdIssuer("forger", "Forger", server.url, CLIENT_ID, SECRET, **changes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forged(house: House, server: OpenIdServer) -> AsyncIterator[House]:
    async with house.changed(issuers={"forger": issuer_of(server)}) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module")
async def someone(forged: House) -> AsyncIterator[Browser]:
    async with forged.browser() as browser:
        yield browser


def unsigned(claims: dict[str, Any]) -> str:
    parts = (b'{"alg":"none"}', json.dumps(claims).encode())
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def by_secret(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256", "kid": "first"}, claims, OctKey.import_key(SECRET))


def by_another_key(claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "ES256", "kid": "first"}, claims, new_key("first"))


@pytest.mark.parametrize(
    ("claims", "forge"),
    [
        ({"iss": "https://accounts.google.com"}, None),
        ({"iss": None}, None),
        ({"aud": "somebody-else"}, None),
        ({"aud": None}, None),
        ({"aud": ["somebody-else"]}, None),
        ({"aud": [CLIENT_ID, "somebody-else"]}, None),
        ({"aud": [CLIENT_ID, "somebody-else"], "azp": "somebody-else"}, None),
        ({"azp": "somebody-else"}, None),
        ({"exp": int(time()) - 3600}, None),
        ({"exp": None}, None),
        ({"iat": None}, None),
        ({"nbf": int(time()) + 3600}, None),
        ({"nonce": "of-another-sign-in"}, None),
        ({"nonce": None}, None),
        ({"sub": None}, None),
        ({"sub": ""}, None),
        ({"sub": 7}, None),
        ({"sub": "x" * 256}, None),
        ({"at_hash": "of-another-token"}, None),
        ({}, unsigned),
        ({}, by_secret),
        ({}, by_another_key),
        ({}, lambda _claims: "no.token"),
        ({}, lambda _claims: ""),
    ],
)
async def test_an_id_token_that_is_not_exactly_right_opens_nothing(
    forged: House,
    server: OpenIdServer,
    someone: Browser,
    subject: str,
    claims: dict[str, Any],
    forge: Callable[[dict[str, Any]], str] | None,
) -> None:
    server.reset(subject, f"{subject}@example.org")
    server.claims |= claims
    server.forge = forge
    answer = await someone.sign_in("forger")
    assert (answer.status_code, "cannot be used" in answer.text) == (502, True)
    assert not await someone.is_signed_in()
    assert await forged.account(f"{subject}@example.org") is None


@pytest.mark.parametrize(
    ("token", "userinfo", "status"),
    [
        ({"id_token": None}, {}, 502),
        ({"access_token": None}, {}, 502),
        ({"access_token": 5}, {}, 502),
        ({}, {"sub": "somebody-else", "email": "{email}", "email_verified": True}, 502),
        ({}, {"email": "{email}", "email_verified": True}, 502),
        ({}, {"sub": "{sub}", "email": "{email}", "email_verified": False}, 403),
        ({}, {"sub": "{sub}", "email": "{email}", "email_verified": "no"}, 403),
        ({}, {"sub": "{sub}", "email": "{email}", "email_verified": 1}, 403),
        ({}, {"sub": "{sub}", "email": "not an address", "email_verified": True}, 403),
        ({}, {"sub": "{sub}", "email": "owner@localhost", "email_verified": True}, 403),
        ({}, {"sub": "{sub}", "email": "{email}", "email_verified": True}, 303),
        ({}, {"sub": "{sub}", "email": "{email}", "email_verified": "true"}, 303),
    ],
)
async def test_what_comes_beside_the_id_token_is_of_the_same_one_and_its_address_is_verified(
    server: OpenIdServer,
    someone: Browser,
    subject: str,
    token: dict[str, Any],
    userinfo: dict[str, Any],
    status: int,
) -> None:
    email = f"{subject}@example.org"
    server.reset(subject, email)
    server.claims = {"sub": subject}
    server.token = token
    filled = {"{sub}": subject, "{email}": email}
    server.userinfo = {name: filled.get(str(value), value) for name, value in userinfo.items()}
    assert (await someone.sign_in("forger")).status_code == status
    assert await someone.is_signed_in() == (status == 303)


@pytest.mark.promise("IDN-14", "IDN-02")
@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": ""},
        {"state": "x" * 43},
        {"iss": None},
        {"iss": ""},
        {"iss": "https://accounts.google.com"},
        {"iss": "{url}/"},
        {"error": "access_denied"},
        {"error": "<script>alert(1)</script>"},
        {"error": "server_error", "error_description": "<script>alert(1)</script>"},
    ],
)
async def test_an_answer_that_was_changed_on_the_way_is_not_taken_to_the_issuer(
    server: OpenIdServer, someone: Browser, subject: str, changes: dict[str, str | None]
) -> None:
    server.reset(subject, f"{subject}@example.org")
    server.answer = {name: value.replace("{url}", server.url) if value else value for name, value in changes.items()}
    answer = await someone.sign_in("forger")
    assert answer.status_code in (403, 502)
    assert "<script>" not in answer.text
    assert not await someone.is_signed_in()
    assert server.exchanged == []


async def test_a_new_key_of_the_issuer_is_fetched_when_a_token_needs_it_and_odd_ones_are_passed_over(
    server: OpenIdServer, someone: Browser, subject: str
) -> None:
    server.others = [{"kty": "of tomorrow", "kid": "odd"}, {"kid": "none"}, {"kty": "EC", "crv": "P-999"}, "no key", 5]
    for kid in ("second", "third"):
        server.reset(subject, f"{subject}@example.org")
        server.key = new_key(kid)
        assert (await someone.sign_in("forger")).status_code == 303
    server.key = new_key("first")
    server.others = []


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://accounts.google.com"},
        {"issuer": None},
        {"token_endpoint": "http://elsewhere.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
    ],
)
async def test_an_issuer_that_says_it_is_another_is_not_gone_to(
    house: House, server: OpenIdServer, metadata: dict[str, Any]
) -> None:
    server.reset("x", "x@example.org")
    server.metadata = metadata
    async with house.changed(issuers={"forger": issuer_of(server)}) as here, here.browser() as browser:
        answer = await browser.http.get("/sign-in/with/forger")
        assert (answer.status_code, "location" in answer.headers) == (502, False)


async def test_an_answer_that_is_too_long_too_slow_packed_or_a_redirect_is_none(
    server: OpenIdServer, someone: Browser, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in (
        Response(b" " * (http.MOST_BYTES + 1)),
        Response(b"x", headers={"content-encoding": "gzip"}),
        Response(b"{}", status_code=500),
        RedirectResponse("https://elsewhere.example/"),
    ):
        server.reset(subject, f"{subject}@example.org")
        server.page = page
        answer = await someone.sign_in("forger")
        assert (answer.status_code, "does not answer" in answer.text) == (503, True)
    for odd in (Response(b"[]"), Response(b"<html>")):
        server.page = odd
        answer = await someone.sign_in("forger")
        assert (answer.status_code, "cannot be used" in answer.text) == (502, True)
    monkeypatch.setattr(http, "SECONDS", 0.0)
    assert (await someone.sign_in("forger")).status_code == 503


async def test_an_issuer_vouches_for_the_domains_that_it_was_given_and_for_no_others(
    house: House, server: OpenIdServer, subject: str
) -> None:
    cases: list[tuple[dict[str, Any], str, bool | None, int]] = [
        ({"domains": ("acme.example",)}, "acme.example", True, 303),
        ({"domains": ("acme.example",)}, "example.org", True, 403),
        ({"domains": ("acme.example",)}, "sub.acme.example", True, 403),
        ({"domains": ("acme.example",)}, "acme.example", None, 403),
        ({"domains": ("acme.example",), "trust_email": True}, "acme.example", None, 303),
        ({"domains": ("acme.example",), "trust_email": True}, "acme.example", False, 403),
        ({"domains": ("acme.example",), "trust_email": True}, "example.org", None, 403),
    ]
    issuers: dict[str, OpenIdIssuer] = {}
    async with house.changed(issuers=issuers) as here, here.browser() as browser:
        for number, (changes, domain, verified, status) in enumerate(cases):
            issuers["forger"] = issuer_of(server, **changes)
            server.reset(f"{subject}{number}", f"{subject}{number}@{domain}")
            server.claims["email_verified"] = verified
            assert (await browser.sign_in("forger")).status_code == status, (changes, domain, verified)
