"""Who may pass, and what those who may not are told."""

from typing import Any

import httpx2
import pytest

from db.principal import Principal
from db.scopes import ALL_SCOPES
from server.mcp.endpoint import McpEndpoint
from tests.server.edge_services import FULL_KEY, EdgeServices, edge_app, edge_services, principal
from tests.server.in_process import GrantTransport

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
SUFFIXED = "/.well-known/oauth-protected-resource/mcp"
ROOT = "/.well-known/oauth-protected-resource"


def client(services: EdgeServices, base_url: str = "http://localhost:8260") -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=edge_app(services)), base_url=base_url)


async def ping(http: httpx2.AsyncClient, *authorization: str) -> httpx2.Response:
    headers = [("authorization", value) for value in authorization] + [("accept", "application/json")]
    return await http.post("/mcp", json=PING, headers=headers)


@pytest.mark.promise("HOME-11")
async def test_no_token_is_401_with_the_address_of_the_metadata_and_no_error() -> None:
    async with client(edge_services()) as http:
        answer = await ping(http)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="http://localhost:8260{SUFFIXED}"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize(
    "sent", ["Bearer wrong", "Bearer", "Bearer ", "Basic ZnVsbDo=", FULL_KEY, "Bearer f\xfcll", "Bearer full x"]
)
async def test_a_wrong_token_is_401_invalid_token(sent: str) -> None:
    async with client(edge_services(public_url="https://inn.example"), "https://inn.example") as http:
        answer = await ping(http, sent.encode("latin-1"))  # type: ignore[arg-type]  # bytes pass through unchanged
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", resource_metadata="https://inn.example{SUFFIXED}"'
    )


async def test_two_tokens_are_none() -> None:
    async with client(edge_services()) as http:
        assert (await ping(http, f"Bearer {FULL_KEY}", f"Bearer {FULL_KEY}")).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    async with client(edge_services()) as http:
        assert (await ping(http, f"{scheme} {FULL_KEY}")).status_code == 200


@pytest.mark.promise("HOME-11")
async def test_a_token_in_the_query_string_is_not_taken() -> None:
    async with client(edge_services()) as http:
        answer = await http.post(f"/mcp?access_token={FULL_KEY}", json=PING)
    assert answer.status_code == 401


async def test_a_stranger_is_refused_before_the_body_is_read() -> None:
    services = edge_services()
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {
        "type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": [(b"host", b"localhost")]
    }  # fmt: skip
    await edge_app(services)(scope, receive, send)
    assert statuses[0] == 401


async def test_a_revoked_token_stops_working_at_once() -> None:
    services = edge_services()
    async with client(services) as http:
        assert (await ping(http, f"Bearer {FULL_KEY}")).status_code == 200
        del services.authenticator.tokens[FULL_KEY]
        assert (await ping(http, f"Bearer {FULL_KEY}")).status_code == 401


async def test_a_database_that_cannot_say_who_calls_is_503_and_not_401() -> None:
    services = edge_services()
    services.authenticator.away = True
    async with client(services) as http:
        answer = await ping(http, f"Bearer {FULL_KEY}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "www-authenticate" not in answer.headers


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("path", [SUFFIXED, ROOT])
async def test_the_metadata_names_the_resource_and_how_to_send_a_token(path: str) -> None:
    async with client(edge_services(public_url="https://inn.example/"), "https://inn.example") as http:
        answer = await http.get(path)
    document = answer.json()
    assert answer.status_code == 200
    assert document["resource"] == "https://inn.example/mcp"
    assert document["bearer_methods_supported"] == ["header"]
    assert document["scopes_supported"] == sorted(ALL_SCOPES)
    assert document["authorization_servers"] == ["https://inn.example"]


async def test_without_a_public_address_the_resource_is_the_address_that_was_used() -> None:
    async with client(edge_services(), "http://127.0.0.1:9999") as http:
        assert (await http.get(SUFFIXED)).json()["resource"] == "http://127.0.0.1:9999/mcp"


def endpoint_of(services: EdgeServices) -> McpEndpoint:
    endpoint: McpEndpoint = edge_app(services).state.mcp_app
    return endpoint


async def ping_in_process(services: EdgeServices, grant: Principal) -> httpx2.Response:
    transport = GrantTransport(endpoint_of(services), grant)
    async with httpx2.AsyncClient(transport=transport, base_url="http://innkeeper.internal") as http:
        return await ping(http)


async def test_a_run_calls_in_process_with_its_grant_and_without_host_token_or_lifespan() -> None:
    services = edge_services()
    grant = services.authenticator.tokens[FULL_KEY].for_run(principal().user_id, depth=1, epoch=1)
    assert (await ping_in_process(services, grant)).status_code == 200


async def test_a_run_whose_key_was_revoked_is_refused() -> None:
    services = edge_services()
    grant = services.authenticator.tokens[FULL_KEY].for_run(principal().user_id, depth=1, epoch=1)
    del services.authenticator.tokens[FULL_KEY]
    answer = await ping_in_process(services, grant)
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]


async def test_a_grant_in_the_scope_of_a_socket_counts_for_nothing() -> None:
    services = edge_services()
    grant = services.authenticator.tokens[FULL_KEY]
    transport = GrantTransport(edge_app(services), grant)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await ping(http)).status_code == 401
