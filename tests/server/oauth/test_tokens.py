"""Tokens: exchanged, refreshed, revoked and asked about, over the endpoints that programs call."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from urllib.parse import quote
from uuid import UUID

import httpx2
import pytest

from db.ids import uuid7
from db.oauth import clients
from db.oauth.tokens import SECRET
from db.tokens import new_token, token_hash
from tests.conftest import eventually
from tests.server.oauth.people import VERIFIER, Inn, Person, Program, call

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def lineage(inn: Inn, token: str) -> tuple[UUID, list[bytes]]:
    """The grant that a refresh token belongs to, and the hashes of all its refresh tokens, the oldest first."""
    grant = await inn.owner.fetchval(
        "SELECT credential_id FROM oauth_refresh_tokens WHERE token_hash = $1", token_hash(token)
    )
    rows = await inn.owner.fetch(
        "SELECT token_hash FROM oauth_refresh_tokens WHERE credential_id = $1 ORDER BY created_at", grant
    )
    return grant, [row["token_hash"] for row in rows]


async def later(inn: Inn, grant: UUID, seconds: int) -> None:
    """Let time pass for the tokens of one grant."""
    await inn.owner.execute(
        "UPDATE oauth_refresh_tokens SET created_at = created_at - $2 * interval '1 second',"
        " expires_at = expires_at - $2 * interval '1 second', used_at = used_at - $2 * interval '1 second'"
        " WHERE credential_id = $1",
        *(grant, seconds),
    )


@pytest.mark.promise("IDN-11")
async def test_fifty_refreshes_at_once_all_succeed_in_one_lineage(inn: Inn, person: Person) -> None:
    program = await inn.program()
    first = await program.tokens(person)
    answers = await asyncio.gather(*(program.refresh(first["refresh_token"]) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    [successor] = {answer.json()["refresh_token"] for answer in answers}
    assert len({answer.json()["access_token"] for answer in answers}) == 50
    _, chain = await lineage(inn, successor)
    assert chain == [token_hash(first["refresh_token"]), token_hash(successor)]
    for answer in answers[::25]:
        assert (await call(inn, answer.json()["access_token"], "list_projects")).status_code == 200


@pytest.mark.promise("IDN-11")
async def test_a_predecessor_is_good_until_its_successor_was_used_and_a_minute_more(inn: Inn, person: Person) -> None:
    program = await inn.program()
    first = (await program.tokens(person))["refresh_token"]
    grant, _ = await lineage(inn, first)
    second = (await program.refresh(first)).json()["refresh_token"]

    await later(inn, grant, 30 * 24 * 3600)
    assert (await program.refresh(first)).json()["refresh_token"] == second, "the answer was lost for a month"
    third = (await program.refresh(second)).json()["refresh_token"]
    await later(inn, grant, 58)
    assert (await program.refresh(first)).json()["refresh_token"] == second, "a slow request"
    assert (await program.refresh(second)).json()["refresh_token"] == third

    await later(inn, grant, 3)
    replayed = await program.refresh(first)
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert (await program.refresh(third)).json()["error"] == "invalid_grant", "the whole family is gone"
    told = await inn.owner.fetch("SELECT action FROM audit WHERE credential_id = $1 ORDER BY id", grant)
    assert [row["action"] for row in told] == ["oauth:granted", "oauth:refresh_replayed"]


@pytest.mark.promise("IDN-11", "IDN-13")
async def test_a_replay_ends_the_access_tokens_of_the_family_too(inn: Inn, person: Person) -> None:
    program = await inn.program()
    first = await program.tokens(person)
    grant, _ = await lineage(inn, first["refresh_token"])
    second = (await program.refresh(first["refresh_token"])).json()
    await program.refresh(second["refresh_token"])
    assert (await call(inn, second["access_token"], "list_projects")).status_code == 200
    await later(inn, grant, 61)
    await program.refresh(first["refresh_token"])

    async def refused() -> bool:
        return (await call(inn, second["access_token"], "list_projects")).status_code == 401

    await eventually(refused)


@pytest.mark.promise("IDN-13")
async def test_tokens_slide_for_months_and_end_when_nobody_comes(inn: Inn, person: Person) -> None:
    program = await inn.program()
    token = (await program.tokens(person))["refresh_token"]
    grant, _ = await lineage(inn, token)
    for _month in range(4):
        await later(inn, grant, 80 * 24 * 3600)
        token = (await program.refresh(token)).json()["refresh_token"]
    await later(inn, grant, 91 * 24 * 3600)
    assert (await program.refresh(token)).json()["error"] == "invalid_grant"


@pytest.mark.promise("IDN-13")
async def test_an_access_token_ends_after_its_hour_and_only_hashes_are_stored(inn: Inn, person: Person) -> None:
    program = await inn.program(token_endpoint_auth_method="client_secret_post")
    assert program.secret is not None
    code = await program.code(person)
    tokens = (await program.exchange(code)).json()
    access = tokens["access_token"]
    assert (await call(inn, access, "list_projects")).status_code == 200
    grant, _ = await lineage(inn, tokens["refresh_token"])
    life = await inn.owner.fetchval(
        "SELECT expires_at - created_at FROM oauth_access_tokens WHERE token_hash = $1", token_hash(access)
    )
    assert life.total_seconds() == 3600
    for table in (
        "oauth_clients",
        "oauth_codes",
        "oauth_access_tokens",
        "oauth_refresh_tokens",
        "credentials",
        "audit",
    ):
        text = str(await inn.owner.fetchval(f"SELECT json_agg(t)::text FROM {table} t"))
        for secret in (code, access, tokens["refresh_token"], program.secret):
            assert secret not in text, table
    await inn.owner.execute("UPDATE oauth_access_tokens SET expires_at = now() WHERE credential_id = $1", grant)
    await inn.owner.execute("UPDATE credentials SET name = name WHERE id = $1", grant)

    async def refused() -> bool:
        return (await call(inn, access, "list_projects")).status_code == 401

    await eventually(refused)


async def test_a_refresh_may_narrow_the_access_token_and_never_widens(inn: Inn, person: Person) -> None:
    program = await inn.program()
    first = await program.tokens(person)
    narrow = (await program.refresh(first["refresh_token"], scope="projects:read")).json()
    assert narrow["scope"] == "projects:read"
    refused = await call(inn, narrow["access_token"], "create_project", name="No")
    assert refused.status_code == 403
    assert 'scope="projects:read projects:write"' in refused.headers["www-authenticate"]
    whole = (await program.refresh(narrow["refresh_token"])).json()
    assert whole["scope"] == "projects:read projects:write"
    wider = await program.refresh(whole["refresh_token"], scope="projects:read storage:read")
    assert wider.json()["error"] == "invalid_scope"
    unknown = await program.refresh(whole["refresh_token"], scope="everything")
    assert unknown.json()["error"] == "invalid_scope"


@pytest.mark.promise("IDN-10")
async def test_a_program_revokes_what_it_holds_and_nothing_else(inn: Inn, person: Person) -> None:
    program, other = await inn.program(), await inn.program()
    tokens = await program.tokens(person)
    for token in (tokens["access_token"], tokens["refresh_token"], "ik_rt_unknown"):
        assert (await other.post("/oauth/revoke", token=token)).status_code == 200
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 200

    async def refused(token: str) -> bool:
        return (await call(inn, token, "list_projects")).status_code == 401

    assert (await program.post("/oauth/revoke", token=tokens["access_token"])).status_code == 200
    await eventually(lambda: refused(tokens["access_token"]))
    again = (await program.refresh(tokens["refresh_token"])).json()
    assert (await call(inn, again["access_token"], "list_projects")).status_code == 200
    await program.post("/oauth/revoke", token=tokens["refresh_token"], token_type_hint="access_token")
    assert (await program.refresh(again["refresh_token"])).json()["error"] == "invalid_grant"
    await eventually(lambda: refused(again["access_token"]))


@pytest.mark.promise("IDN-10")
async def test_the_operators_client_asks_what_a_token_is_worth(inn: Inn, person: Person) -> None:
    client_id, secret = await clients.create(inn.owner, "gateway", may_introspect=True)
    gateway = Program(inn, client_id, secret)
    program = await inn.program()
    tokens = await program.tokens(person)
    told = (await gateway.post("/oauth/introspect", token=tokens["access_token"])).json()
    assert told["active"] is True
    assert told["client_id"] == program.client_id
    assert (told["sub"], told["aud"], told["iss"]) == (str(person.user_id), inn.resource, inn.url)
    assert told["scope"] == "projects:read projects:write"
    assert told["exp"] - told["iat"] == 3600
    refresh = (await gateway.post("/oauth/introspect", token=tokens["refresh_token"])).json()
    assert (refresh["active"], refresh["token_type"]) == (True, "refresh_token")
    await program.refresh(tokens["refresh_token"])
    for dead in (tokens["refresh_token"], "ik_at_nonsense", "x"):
        assert (await gateway.post("/oauth/introspect", token=dead)).json() == {"active": False}
    nosy = await program.post("/oauth/introspect", token=tokens["access_token"])
    assert (nosy.status_code, nosy.json()["error"]) == (403, "unauthorized_client")


@pytest.mark.promise("IDN-10")
async def test_a_client_with_a_secret_proves_itself_in_one_of_two_ways(inn: Inn, person: Person) -> None:
    program = await inn.program(token_endpoint_auth_method="client_secret_basic")
    assert program.secret is not None
    code = await program.code(person)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}

    def basic(secret: str) -> dict[str, str]:
        pair = f"{quote(program.client_id, safe='')}:{quote(secret, safe='')}"
        return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    async with httpx2.AsyncClient(base_url=inn.url, trust_env=False, timeout=60) as http:
        wrong = await http.post("/oauth/token", data=form, headers=basic(new_token(SECRET)))
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        assert wrong.headers["www-authenticate"].startswith("Basic ")
        both = await http.post(
            "/oauth/token", data={**form, "client_secret": program.secret}, headers=basic(program.secret)
        )
        assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
        public = await http.post("/oauth/token", data={**form, "client_id": program.client_id})
        assert (public.status_code, public.json()["error"]) == (401, "invalid_client")
        done = await http.post("/oauth/token", data=form, headers=basic(program.secret))
        assert done.status_code == 200
        assert done.headers["cache-control"] == "no-store"
    assert (await program.refresh(done.json()["refresh_token"])).status_code == 200, "the other way, in the form"


@pytest.mark.promise("IDN-10")
async def test_a_service_account_gets_tokens_for_its_secret_and_keeps_to_its_project(inn: Inn, person: Person) -> None:
    service = uuid7()
    secret, client_id = new_token(SECRET), "a-service"
    await inn.owner.execute("INSERT INTO users (id, email) VALUES ($1, $2)", service, f"{service}@service.test")
    await inn.owner.execute(
        "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'member')",
        *(service, person.projects["One"]),
    )
    await inn.owner.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name, grant_types, auth_method, secret_hash, scopes, user_id,"
        " project_id) VALUES ($1, $2, 'registered', 'A service', '{client_credentials}', 'client_secret_basic', $3,"
        " '{projects:read,runs:read}', $4, $5)",
        *(uuid7(), client_id, token_hash(secret), service, person.projects["One"]),
    )
    program = Program(inn, client_id, secret)
    answer = await program.post("/oauth/token", grant_type="client_credentials", scope="projects:read")
    assert answer.status_code == 200, answer.text
    assert "refresh_token" not in answer.json()
    assert answer.json()["scope"] == "projects:read"
    token = answer.json()["access_token"]
    listed = (await call(inn, token, "list_projects")).json()["result"]["structuredContent"]
    assert [project["name"] for project in listed["projects"]] == ["One"]

    again = await program.post("/oauth/token", grant_type="client_credentials")
    assert again.json()["scope"] == "projects:read runs:read"
    assert await inn.owner.fetchval("SELECT count(*) FROM credentials WHERE user_id = $1", service) == 1
    wider = await program.post("/oauth/token", grant_type="client_credentials", scope="projects:write")
    assert wider.json()["error"] == "invalid_scope"
    assert (await (await inn.program()).post("/oauth/token", grant_type="client_credentials")).json()["error"] == (
        "unauthorized_client"
    )


@pytest.mark.promise("IDN-13")
async def test_a_token_for_another_house_is_no_token_here(inn: Inn, person: Person) -> None:
    program = await inn.program()
    tokens = await program.tokens(person)
    grant, _ = await lineage(inn, tokens["refresh_token"])
    await inn.owner.execute("UPDATE credentials SET audience = 'https://another.example/mcp' WHERE id = $1", grant)
    assert (await call(inn, tokens["access_token"], "list_projects")).status_code == 401
