"""Whose tokens a project takes: of issuers, under keys of its own, of endpoints that know somebody, and anybody's."""

from __future__ import annotations

import json
from time import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from db import end_users
from db.errors import AppError
from server.oauth import signatures
from server.oauth.issuer_keys import MOST_ISSUERS, PAUSE_SECONDS, IssuerKeys
from server.oauth.subject_tokens import SubjectTokens
from server.vault import Vault
from tests.server.end_users.issuers import AUDIENCE, Issuer, claims, ed25519, rsa, unsigned
from tests.server.end_users.products import SECRET, House, Product, who
from tools.outside import Answered

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-20")]


async def test_an_issuer_speaks_for_the_users_of_those_projects_alone_that_list_it(
    product: Product, other: Product, issuer: Issuer
) -> None:
    await product.trust_issuer(issuer)
    answer = await other.exchange(issuer.token())
    assert answer.json()["error"] == "invalid_request"
    assert "no source of tokens" in answer.json()["error_description"]


@pytest.mark.parametrize(("path", "well_known"), [("", "openid-configuration"), ("/a/b", "oauth-authorization-server")])
async def test_issuers_are_found_in_both_forms_of_discovery(product: Product, path: str, well_known: str) -> None:
    async with Issuer.opened(path, well_known) as found:
        await product.trust_issuer(found)
        assert await who(product, await product.token(found.token())) == (found.url, "ann")


async def test_an_issuer_that_says_it_is_another_one_is_not_believed(product: Product) -> None:
    async with Issuer.opened("/a") as issuer:
        await product.trust_issuer(issuer)
        issuer.document["issuer"] = issuer.root
        answer = await product.exchange(issuer.token())
        assert "that of another issuer" in answer.json()["error_description"]


async def test_keys_are_kept_and_asked_for_once_when_the_issuer_has_a_new_one(product: Product) -> None:
    now = 1000.0
    subjects = SubjectTokens(
        Vault(product.house.services.keyring),
        outside := product.house.services.dispatch.services.outside,
        IssuerKeys(outside, clock=lambda: now),
    )
    async with Issuer.opened("/a") as issuer:
        await product.trust_issuer(issuer)
        exchange = await end_users.find_exchange(product.house.services.database, product.secret)
        assert exchange is not None

        async def taken(token: str) -> bool:
            try:
                await subjects.subject(product.project_id, exchange.sources, token)
            except AppError:
                return False
            return True

        for _ in range(3):
            assert await taken(issuer.token())
        assert issuer.asked == ["document", "keys"]
        issuer.keys.append(issuer.new_key("second"))
        assert await taken(issuer.token())
        assert await taken(issuer.token(issuer.keys[0]))
        assert issuer.asked == ["document", "keys"] * 2
        # Keys that nobody has: asked for once, and not again with each token that names one.
        for number in range(5):
            assert not await taken(issuer.token(issuer.new_key(f"strange {number}")))
        assert issuer.asked == ["document", "keys"] * 2
        now += PAUSE_SECONDS
        assert not await taken(issuer.token(issuer.new_key("strange")))
        assert issuer.asked == ["document", "keys"] * 3
        # While it is away its keys still count, for a day.
        issuer.away = True
        now += 7200
        assert await taken(issuer.token())
        now += 86_400
        assert not await taken(issuer.token())


class Publishing:
    """The outside of a process in which every issuer publishes the same key."""

    def __init__(self, issuer: Issuer) -> None:
        self.key = issuer.keys[0].as_dict(private=False)
        self.asked: list[str] = []

    def check(self, url: str) -> None:
        """All are fine."""

    async def request(self, method: str, url: str, **_how: Any) -> Answered:
        self.asked.append(url)
        body = json.dumps({"keys": [self.key]}).encode()
        return Answered(url, 200, "application/json", {"cache-control": "max-age=999999999"}, body)


async def test_the_keys_of_so_many_issuers_are_kept_and_for_so_long(issuer: Issuer) -> None:
    now = 0.0
    outside = Publishing(issuer)
    keys = IssuerKeys(outside, clock=lambda: now)
    sets = [f"https://{number}.example/keys" for number in range(MOST_ISSUERS + 1)]
    for one in sets:
        await keys.of("https://id.example", one)
    await keys.of("https://id.example", sets[-1])
    assert outside.asked == sets
    await keys.of("https://id.example", sets[0])
    assert outside.asked == [*sets, sets[0]], "the first one had been forgotten"
    now += 86_401
    await keys.of("https://id.example", sets[0])
    assert outside.asked[-2:] == [sets[0]] * 2, "nothing is kept for more than a day"


async def test_a_shared_secret_signs_and_nothing_else_does(product: Product, issuer: Issuer) -> None:
    source = await product.trust("hs256")
    key = OctKey.import_key(SECRET)
    token = await product.token(issuer.token(key, iss=None, aud=None))
    assert await who(product, token) == (end_users.OWN, "ann")
    assert await who(product, await product.token(issuer.token(key, iss="https://own.example"))) == (
        "https://own.example",
        "ann",
    )
    wrong = OctKey.import_key("another secret of at least 32 bytes!")
    for refused, why in (
        (issuer.token(wrong), "signature is not good"),
        (issuer.token(), "no source of tokens"),
        (issuer.token(key, iss="~anonymous"), "iss is no issuer"),
    ):
        assert why in (await product.exchange(refused)).json()["error_description"]
    stored = await product.house.owner.fetchval("SELECT sealed FROM token_sources WHERE id = $1", source)
    assert SECRET.encode() not in stored


@pytest.mark.parametrize("make", [rsa, ed25519, lambda: Issuer().new_key("p")])
async def test_a_pinned_public_key_signs_with_its_own_algorithms(product: Product, issuer: Issuer, make: Any) -> None:
    key = make()
    pem = key.as_pem(private=False).decode()
    await product.trust("public_key", public_key=pem, audience=AUDIENCE)
    assert await who(product, await product.token(issuer.token(key, iss=None))) == ("~public_key", "ann")
    as_secret = jwt.encode(
        {"alg": "HS256"}, claims(issuer.url), OctKey.import_key(json.dumps(key.as_dict(private=False))), ["HS256"]
    )
    for refused in (issuer.token(), as_secret, issuer.token(key, aud="another")):
        assert (await product.exchange(refused)).json()["error"] == "invalid_request"


async def test_what_is_no_public_key_for_signatures_is_none() -> None:
    private = rsa()
    for text in (
        private.as_pem(private=True).decode(),
        json.dumps(private.as_dict(private=True)),
        json.dumps({"kty": "oct", "k": "c2VjcmV0"}),
        json.dumps({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        "{}",
        "[",
        "nonsense",
    ):
        with pytest.raises(AppError):
            signatures.pinned(text)
    assert signatures.pinned(json.dumps(private.as_dict(private=False))).key_type == "RSA"


async def test_a_userinfo_endpoint_says_who_it_is_for_a_short_while(product: Product, issuer: Issuer) -> None:
    await product.trust("userinfo", url=f"{issuer.root}/userinfo")
    issuer.people = {"Bearer opaque-of-ann": {"sub": "ann"}, "Bearer nobody": {"name": "x"}}
    answer = await product.exchange("opaque-of-ann")
    assert 290 <= answer.json()["expires_in"] <= 300
    assert await who(product, answer.json()["access_token"]) == (f"~userinfo {issuer.root}/userinfo", "ann")
    for token, why in (
        ("unknown", "answers with 401"),
        ("nobody", "has no sub"),
        ("a b", "no access token"),
        ("a\r\nx: y", "no access token"),
    ):
        assert why in (await product.exchange(token)).json()["error_description"]
    # A token that says when it ends is not outlived, nor believed after that.
    soon = issuer.token(exp=int(time()) + 60)
    issuer.people[f"Bearer {soon}"] = {"sub": "ann"}
    assert (await product.exchange(soon)).json()["expires_in"] <= 60
    late = issuer.token(exp=int(time()) - 1)
    issuer.people[f"Bearer {late}"] = {"sub": "ann"}
    assert "expired" in (await product.exchange(late)).json()["error_description"]
    # What the endpoint says of its end counts as well, however it says it.
    now = int(time())
    for said, most in (
        ({"exp": now + 60}, 60),
        ({"exp": str(now + 60)}, 60),
        ({"expires_in": 60}, 60),
        ({"exp": now + 9_000, "expires_in": "60", "active": True}, 60),
        ({"exp": "soon", "expires_in": None}, 300),
        ({"exp": now + 9_000}, 300),
    ):
        for token in ("opaque-of-ann", issuer.token(exp=now + 1_000)):
            issuer.people[f"Bearer {token}"] = {"sub": "ann", **said}
            assert most - 10 <= (await product.exchange(token)).json()["expires_in"] <= most, said
    for ended, why in (
        ({"exp": now - 1}, "expired"),
        ({"expires_in": 0}, "expired"),
        ({"expires_in": "0"}, "expired"),
        ({"active": False}, "not active"),
        ({"active": "false"}, "not active"),
    ):
        issuer.people["Bearer opaque-of-ann"] = {"sub": "ann", **ended}
        assert why in (await product.exchange("opaque-of-ann")).json()["error_description"], ended


async def test_anybodys_word_counts_only_where_a_project_wants_it_and_is_nobody_elses(
    product: Product, issuer: Issuer
) -> None:
    await product.trust_issuer(issuer)
    forged = unsigned(claims("https://anybody.example"), {"alg": "HS256"}) + "AAAA"
    assert (await product.exchange(forged)).status_code == 400
    await product.trust("none")
    assert await who(product, await product.token(forged)) == (end_users.UNVERIFIED, "ann")
    assert await who(product, await product.token(issuer.token())) == (issuer.url, "ann")
    # It does not make the issuer's own word weaker.
    as_issuer = unsigned(claims(issuer.url), {"alg": "ES256"}) + "AAAA"
    assert (await product.exchange(as_issuer)).status_code == 400
    assert (await product.exchange(unsigned(claims("x"), {"alg": "none"}))).status_code == 400


async def test_the_guard_keeps_issuers_from_leading_into_the_network(house: House, product: Product) -> None:
    source = "http://169.254.169.254/latest"
    await product.trust("issuer", issuer=source, audience=AUDIENCE)
    await product.trust("userinfo", url=source)
    async with Issuer.opened() as issuer:
        answer = await product.exchange(issuer.token(iss=source))
        assert "cannot be had" in answer.json()["error_description"]
        assert answer.json()["error"] == "invalid_request"
        answer = await product.exchange("opaque")
        assert "cannot be asked" in answer.json()["error_description"]
