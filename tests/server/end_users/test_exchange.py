"""Token exchange (RFC 8693): whose word is taken for an end user, and whose is not."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from time import time
from typing import Any

import httpx2
import pytest
from joserfc import jwe, jwt
from joserfc.jwk import OctKey, RSAKey

from db import accounts, end_users
from db.errors import AppError
from db.ids import uuid7
from server.app import create_app
from server.limits.newcomers import Newcomers
from server.oauth import signatures
from server.oauth.issuer_keys import MOST_ISSUERS, PAUSE_SECONDS, IssuerKeys
from server.oauth.subject_tokens import SubjectTokens
from server.vault import Vault
from tests.server.end_users.issuers import AUDIENCE, Issuer, claims, ed25519, rsa
from tests.server.end_users.products import ACCESS, EXCHANGE, PAGE, SECRET, House, Product
from tools.outside import Answered

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-20")]


async def who(product: Product, token: str) -> tuple[str, str]:
    """Issuer and name of the end user whom a token is for."""
    principal = await product.house.services.authenticator.authenticate(token)
    assert principal is not None
    assert principal.project_id == product.project_id
    row = await product.house.owner.fetchrow(
        "SELECT issuer, external_id FROM end_users WHERE project_id = $1 AND id = $2",
        *(product.project_id, principal.end_user_id),
    )
    assert row is not None
    return row["issuer"], row["external_id"]


async def test_a_token_of_an_allowed_issuer_is_exchanged_for_a_short_one(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    answer = await product.exchange(issuer.token())
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said.keys() == {"access_token", "issued_token_type", "token_type", "expires_in", "scope"}
    assert said["issued_token_type"] == ACCESS
    assert said["token_type"] == "Bearer"
    assert said["scope"] == "runs:read runs:write storage:read storage:write"
    assert 590 <= said["expires_in"] <= 600
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert await who(product, said["access_token"]) == (issuer.url, "ann")


async def test_no_token_lives_longer_than_an_hour_or_than_its_source(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    for ahead, most in ((30, 30), (600, 600), (7200, 3600), (10**9, 3600), (10**30, 3600)):
        answer = await product.exchange(issuer.token(exp=int(time()) + ahead))
        assert most - 5 <= answer.json()["expires_in"] <= most, ahead


async def test_every_way_to_present_a_key_is_known(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    form = {"grant_type": EXCHANGE, "subject_token": issuer.token(), "subject_token_type": ACCESS}
    project = str(product.project_id)

    def basic(name: str, password: str) -> dict[str, str]:
        return {"authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}

    ways: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"authorization": f"Bearer {product.secret}"}, {}),
        ({"x-api-key": product.publishable}, {}),
        ({"x-api-key": product.publishable, "authorization": f"Bearer {product.publishable}"}, {}),
        (basic(project, product.secret), {}),
        (basic(product.publishable, ""), {}),
        ({}, {"client_id": project, "client_secret": product.secret}),
        ({}, {"client_id": product.publishable}),
    ]
    for headers, fields in ways:
        async with product.house.http(**headers) as http:
            answer = await http.post("/oauth/token", data={**form, **fields})
        assert answer.status_code == 200, (headers.keys(), fields.keys(), answer.text)


async def test_who_presents_no_live_key_is_an_invalid_client(product: Product, other: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    await product.house.owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", other.publishable_id)
    oauth = "ik_at_" + product.secret[6:]
    for key in ("nonsense", product.secret[:-1] + "x", oauth, other.publishable, await product.token(issuer.token())):
        answer = await product.exchange(issuer.token(), key=key)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), key
    form = {"grant_type": EXCHANGE, "subject_token": issuer.token(), "subject_token_type": ACCESS}
    async with product.house.http() as http:
        for fields, error in (
            ({}, "invalid_client"),
            ({"client_id": "innkeeper-cli"}, "invalid_client"),
            ({"client_secret": product.secret, "client_id": product.publishable}, "invalid_request"),
        ):
            answer = await http.post("/oauth/token", data={**form, **fields})
            assert answer.json()["error"] == error, fields


async def test_a_key_of_several_projects_names_one(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    _id, wide = await accounts.create_key(product.house.owner, product.user_id)
    second = uuid7()
    await product.house.owner.execute(
        "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Second', $2)", second, product.user_id
    )
    named = await product.token(issuer.token(), key=wide, origin=None, project_id=str(product.project_id))
    assert await who(product, named) == (issuer.url, "ann")
    answer = await product.exchange(issuer.token(), key=wide, origin=None, project_id=str(second))
    assert answer.json()["error"] == "invalid_request"
    answer = await product.exchange(issuer.token(), key=wide, origin=None, project_id=str(uuid7()))
    assert answer.json()["error"] == "invalid_client"


def unsigned(said: dict[str, Any], header: dict[str, Any]) -> str:
    parts = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, said))
    return ".".join((*parts, ""))


def nested(depth: int) -> str:
    header, deep = b'{"alg":"ES256"}', b'{"a":' * depth + b"1" + b"}" * depth
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, deep, b"signature"))


def refused_tokens(issuer: Issuer) -> dict[str, tuple[str, str]]:
    """Each with what is said of it."""
    good = claims(issuer.url)
    public = json.dumps(issuer.keys[0].as_dict(private=False))
    hs = {"alg": "HS256", "kid": "first"}
    strange = issuer.new_key("first")
    listed = RSAKey.generate_key(2048, {"kid": "first"})
    encrypted = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, b"{}", OctKey.generate_key(256))
    header, body, signature = issuer.token().split(".")
    wider = urlsafe_b64encode(json.dumps(good | {"sub": "ben"}).encode()).rstrip(b"=").decode()
    return {
        "alg none": (unsigned(good, {"alg": "none"}), "it is not signed"),
        "alg None": (unsigned(good, {"alg": "NoNe"}), "it is not signed"),
        "no alg": (unsigned(good, {"typ": "JWT"}), "it is not signed"),
        "signed with the public key": (
            jwt.encode(hs, good, OctKey.import_key(public), algorithms=["HS256"]),
            "an algorithm that its source may use",
        ),
        "signed by somebody else": (issuer.token(strange), "signature is not good"),
        "another kind of key": (issuer.token(listed), "signature is not good"),
        "claims changed": (f"{header}.{wider}.{signature}", "signature is not good"),
        "signature gone": (f"{header}.{body}.", "signature is not good"),
        "another audience": (issuer.token(aud="another"), "aud is another one"),
        "no audience": (issuer.token(aud=None), "aud is another one"),
        "audiences without ours": (issuer.token(aud=["a", "b"]), "aud is another one"),
        "an audience that is no text": (issuer.token(aud={AUDIENCE: 1}), "aud is another one"),
        "another issuer": (issuer.token(iss="https://other.example"), "no source of tokens"),
        "a slash more": (issuer.token(iss=issuer.url + "/"), "no source of tokens"),
        "no issuer": (issuer.token(iss=None), "no source of tokens"),
        "expired": (issuer.token(exp=int(time()) - 1), "it has expired"),
        "no exp": (issuer.token(exp=None), "it has no exp"),
        "exp as text": (issuer.token(exp=str(int(time()) + 600)), "exp is no time"),
        "exp true": (issuer.token(exp=True), "exp is no time"),
        "not yet": (issuer.token(nbf=int(time()) + 600), "nbf is in the future"),
        "made tomorrow": (issuer.token(iat=int(time()) + 86400), "iat is in the future"),
        "no sub": (issuer.token(sub=None), "it has no sub"),
        "an empty sub": (issuer.token(sub=""), "sub is not 1 to 255"),
        "a long sub": (issuer.token(sub="x" * 256), "sub is not 1 to 255"),
        "a sub with a null": (issuer.token(sub="ann\x00"), "sub is not 1 to 255"),
        "half a character": (issuer.token(sub="ann\ud800"), "sub is not 1 to 255"),
        "a sub that is a number": (issuer.token(sub=7), "sub is not 1 to 255"),
        "a logout token": (issuer.token(header={"typ": "logout+jwt"}), "a token of another kind"),
        "a token in a token": (issuer.token(header={"cty": "JWT"}), "a token within a token"),
        "what must be understood": (
            issuer.token(header={"crit": ["exp"], "exp": 1}),
            "signature is not good",
        ),
        "encrypted": (encrypted, "it is encrypted"),
        "too long": (issuer.token(filler="x" * 20_000), "more than 16384 characters"),
        "deep": (nested(1500), "no source of tokens"),
        "no token": ("nonsense", "no source of tokens"),
        "dots": ("..", "no source of tokens"),
    }


async def test_tokens_that_prove_nothing_are_refused_and_said_why(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    counting = 0
    for name, (token, why) in refused_tokens(issuer).items():
        answer = await product.exchange(token)
        said = answer.json()
        assert (answer.status_code, said["error"]) == (400, "invalid_request"), (name, answer.text)
        assert why in said["error_description"], (name, said)
        assert said.keys() == {"error", "error_description"}
        counting += 1
    assert counting > 30
    rows = "SELECT count(*) FROM end_users WHERE project_id = $1"
    assert await product.house.owner.fetchval(rows, product.project_id) == 0


async def test_requests_that_are_none_are_refused(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    token = issuer.token()
    for fields, error in (
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"actor_token": token}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"scope": "projects:read"}, "invalid_scope"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
    ):
        answer = await product.exchange(token, **fields)
        assert (answer.status_code, answer.json()["error"]) == (400, error), fields
    narrow = await product.exchange(token, scope="runs:read")
    assert narrow.json()["scope"] == "runs:read"


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


async def test_wrong_tokens_are_limited_by_address_and_right_ones_never_are(product: Product, issuer: Issuer) -> None:
    await product.trust_issuer(issuer)
    services = replace(product.house.services, newcomers=Newcomers(product.house.services.database))
    transport = httpx2.ASGITransport(app=create_app(services), client=("203.0.113.9", 1))
    form = {"grant_type": EXCHANGE, "subject_token_type": ACCESS, "client_id": product.publishable}
    async with httpx2.AsyncClient(transport=transport, base_url=product.house.url) as http:
        wrong = {**form, "subject_token": issuer.token(exp=1)}
        errors = [(answer := await http.post("/oauth/token", data=wrong)).json()["error"]]
        while errors[-1] != "slow_down" and len(errors) < 100:
            answer = await http.post("/oauth/token", data=wrong)
            errors.append(answer.json()["error"])
        assert 50 <= errors.index("slow_down") < 90
        assert int(answer.headers["retry-after"]) >= 1
        answer = await http.post("/oauth/token", data={**form, "subject_token": issuer.token()})
        assert answer.status_code == 200
        # A token is good for an hour: nobody needs many of them, and nobody else suffers by who asks for them.
        right = {**form, "subject_token": issuer.token(sub="greedy")}
        statuses = [(await http.post("/oauth/token", data=right)).status_code for _ in range(75)]
        assert statuses.index(429) >= 50
        answer = await http.post("/oauth/token", data={**form, "subject_token": issuer.token(sub="modest")})
        assert answer.status_code == 200
