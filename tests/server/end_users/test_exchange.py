"""Token exchange (RFC 8693): whose word is taken for an end user, and whose is not."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from time import time

import httpx2
import pytest
from joserfc import jwe, jwt
from joserfc.jwk import OctKey, RSAKey

from db import accounts
from db.ids import uuid7
from server.app import create_app
from server.limits.newcomers import Newcomers
from tests.server.end_users.issuers import AUDIENCE, Issuer, claims, unsigned
from tests.server.end_users.products import ACCESS, EXCHANGE, PAGE, Product, who

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-20")]


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
