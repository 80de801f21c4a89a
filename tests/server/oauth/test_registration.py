"""What the server says of itself, and how programs that nobody announced make themselves known."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.server.oauth.people import BACK, Inn, Person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-10")]


async def test_the_metadata_is_at_all_its_addresses_and_names_what_there_is(inn: Inn) -> None:
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        oauth = (await http.get("/.well-known/oauth-authorization-server")).json()
        openid = (await http.get("/.well-known/openid-configuration")).json()
        resources = [(await http.get(f"/.well-known/oauth-protected-resource{form}")).json() for form in ("", "/mcp")]
        keys = (await http.get(openid["jwks_uri"])).json()
        other = (await http.get("/.well-known/oauth-authorization-server", headers={"host": "localhost:4711"})).json()
    assert oauth["issuer"] == inn.url
    assert oauth["code_challenge_methods_supported"] == ["S256"]
    assert oauth["response_types_supported"] == ["code"]
    assert set(oauth["token_endpoint_auth_methods_supported"]) == {"none", "client_secret_basic", "client_secret_post"}
    assert oauth["authorization_response_iss_parameter_supported"] is True
    assert oauth["protected_resources"] == [inn.resource]
    assert {name for name in oauth if name.endswith("_endpoint")} == {
        "authorization_endpoint",
        "token_endpoint",
        "registration_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "device_authorization_endpoint",
    }
    assert openid.items() >= oauth.items()
    assert keys == {"keys": []}
    for resource in resources:
        assert resource["resource"] == inn.resource
        assert resource["authorization_servers"] == [inn.url]
    assert other["issuer"] == "http://localhost:4711", "on a laptop the address that was used, which clients compare"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example"}, "invalid_client_metadata"),
        ({"redirect_uris": [1]}, "invalid_client_metadata"),
        ({"redirect_uris": ["http://app.example/back"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example/back#here"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://user@app.example/back"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["JavaScript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["data:text/html,x"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://127.0.0.1.evil.example/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://localhost@evil.example/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://127.0.0.1:99999/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["//app.example/back"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example\\@evil.example/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [BACK] * 21}, "invalid_redirect_uri"),
        ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
        ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
    ],
)
async def test_a_description_that_cannot_be_trusted_is_refused(inn: Inn, changes: dict[str, Any], error: str) -> None:
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        answer = await http.post("/oauth/register", json={"redirect_uris": [BACK], **changes})
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_what_is_no_description_is_refused(inn: Inn) -> None:
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        for body in (b"", b"[]", b"{", b"null", b"[" * 10_000, b'"x"'):
            answer = await http.post("/oauth/register", content=body)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
        long = await http.post("/oauth/register", content=b"x" * 70_000)
        assert long.status_code == 413


async def test_a_client_gets_a_secret_only_where_it_uses_one_and_a_name_that_can_be_shown(inn: Inn) -> None:
    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:

        async def register(**said: Any) -> dict[str, Any]:
            answer = await http.post("/oauth/register", json={"redirect_uris": [BACK], **said})
            assert answer.status_code == 201
            assert answer.headers["cache-control"] == "no-store"
            found: dict[str, Any] = answer.json()
            return found

        public = await register(token_endpoint_auth_method="none", client_name="  Two\n\twords\u202e\u0000 ")
        assert "client_secret" not in public
        assert public["client_name"] == "Two words"
        assert public["grant_types"] == ["authorization_code", "refresh_token"]
        usual = await register(grant_types=["authorization_code"], client_uri="javascript:x")
        assert usual["token_endpoint_auth_method"] == "client_secret_basic"
        assert usual["client_secret"].startswith("ik_cs_")
        assert usual["client_secret_expires_at"] == 0
        assert "client_uri" not in usual
        assert usual["client_name"]
        assert usual["client_id"] != public["client_id"]


async def clean_up(inn: Inn) -> None:
    async with inn.services.database.ops() as connection:
        await connection.execute("SELECT clean_up_oauth(1000)")


async def test_clients_that_nobody_uses_expire(inn: Inn, person: Person) -> None:
    unused, fresh, used = await inn.program(), await inn.program(), await inn.program()
    await used.tokens(person)
    await inn.owner.execute(
        "UPDATE oauth_clients SET created_at = created_at - interval '2 days' WHERE client_id = ANY($1)",
        [unused.client_id, used.client_id],
    )
    await clean_up(inn)
    assert (await unused.refresh("ik_rt_x")).json()["error"] == "invalid_client"
    assert (await fresh.refresh("ik_rt_x")).json()["error"] == "invalid_grant"
    assert (await used.refresh("ik_rt_x")).json()["error"] == "invalid_grant"

    await inn.owner.execute(
        "UPDATE oauth_clients SET used_at = used_at - interval '100 days' WHERE client_id = $1", used.client_id
    )
    await clean_up(inn)
    assert (await used.refresh("ik_rt_x")).json()["error"] == "invalid_grant", "its grant still lives"
    await inn.owner.execute(
        "UPDATE credentials SET created_at = now() - interval '100 days', revoked_at = now() - interval '40 days'"
        " WHERE client_id = (SELECT id FROM oauth_clients WHERE client_id = $1)",
        used.client_id,
    )
    for _round in ("its grants", "and then itself"):
        await clean_up(inn)
    assert (await used.refresh("ik_rt_x")).json()["error"] == "invalid_client"
