"""MCP over HTTP, by hand: bodies, methods, headers and statuses as the specification wants them."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.server.edge_services import error_of
from tests.server.eras import ENVELOPE, MODERN, handshake, http, modern, request, services, shared_client

__all__ = ["http", "services", "shared_client"]

# One server for the whole module: starting one takes longer than any of these tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"jsonrpc": "2.0",}', b"\xff\xfe", b'"\\ud800"', b"[" * 60_000, b'{"a":' * 12_000,
        b"NaN", b'{"id": NaN}', b"{} {}",
    ],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
async def test_malformed_json_is_a_parse_error_without_an_id(
    http: httpx2.AsyncClient, version: str, body: bytes
) -> None:
    headers = {"content-type": "application/json", "mcp-protocol-version": version}
    answer = await http.post("/mcp", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["id"] is None
    assert error_of(answer)["code"] == -32700


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    "message",
    [
        1, "text", None, [], {}, {"id": 1}, {"jsonrpc": "2.0", "id": 1}, {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"}, {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, {"jsonrpc": "2.0", "id": 1, "method": 7},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, {"jsonrpc": "2.0", "method": "x", "params": 3},
        [request("ping")],
    ],
    ids=repr,
)  # fmt: skip
async def test_json_that_is_no_single_message_is_an_invalid_request(
    http: httpx2.AsyncClient, version: str, message: Any
) -> None:
    headers = {"content-type": "application/json", "mcp-protocol-version": version}
    answer = await http.post("/mcp", content=json.dumps(message), headers=headers)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == -32600


async def test_a_batch_is_answered_in_the_revisions_that_have_batches(http: httpx2.AsyncClient) -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    batch = [request("ping"), notification, {"jsonrpc": "2.0", "id": "b", "method": "no/such"}, 7]
    answer = await http.post("/mcp", json=batch, headers={"mcp-protocol-version": "2025-03-26"})
    assert answer.status_code == 200
    assert [(reply["id"], "result" in reply) for reply in answer.json()] == [(1, True), ("b", False), (None, False)]
    silent = await http.post("/mcp", json=[notification], headers={"mcp-protocol-version": "2025-03-26"})
    assert (silent.status_code, silent.content) == (202, b"")


@pytest.mark.parametrize("size", [0, 51])
async def test_a_batch_of_none_or_too_many_is_refused(http: httpx2.AsyncClient, size: int) -> None:
    answer = await http.post("/mcp", json=[request("ping")] * size, headers={"mcp-protocol-version": "2025-03-26"})
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32600)


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_a_notification_is_accepted_without_a_body(http: httpx2.AsyncClient, version: str) -> None:
    for method in ("notifications/initialized", "notifications/cancelled", "notifications/unheard"):
        answer = await http.post(
            "/mcp", json={"jsonrpc": "2.0", "method": method}, headers={"mcp-protocol-version": version}
        )
        assert (answer.status_code, answer.content) == (202, b"")


async def test_a_posted_reply_is_accepted_in_the_handshake_era_and_refused_in_the_modern(
    http: httpx2.AsyncClient,
) -> None:
    reply = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert (await http.post("/mcp", json=reply)).status_code == 202
    assert (await http.post("/mcp", json=reply, headers={"mcp-protocol-version": MODERN})).status_code == 400


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD", "OPTIONS"])
async def test_every_method_but_post_is_405(http: httpx2.AsyncClient, version: str, method: str) -> None:
    headers = {"mcp-protocol-version": version, "accept": "text/event-stream"}
    answer = await http.request(method, "/mcp", headers=headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""])
async def test_a_content_type_that_is_not_json_is_415(http: httpx2.AsyncClient, kind: str) -> None:
    answer = await http.post("/mcp", content=json.dumps(request("ping")), headers={"content-type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("Application/*;q=0.5, text/html", 200),
        ("text/event-stream", 406),
        ("text/html", 406),
        ("", 406),
    ],
)
async def test_a_client_must_accept_json(http: httpx2.AsyncClient, accept: str, status: int) -> None:
    answer = await http.post("/mcp", json=request("ping"), headers={"accept": accept})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/list"},
        {"mcp-method": ""},
        {"mcp-name": "other"},
        {"mcp-name": "=?base64?!!?="},
        {"mcp-protocol-version": "2026-07-29"},
    ],
    ids=repr,
)
async def test_modern_headers_that_contradict_the_body_are_refused(
    http: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    sent = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"} | headers
    body = request("tools/call", {"name": "echo", "arguments": {"text": "x"}, "_meta": ENVELOPE})
    answer = await http.post("/mcp", json=body, headers=sent)
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32020)


async def test_a_repeated_routing_header_is_refused(http: httpx2.AsyncClient) -> None:
    sent = [("mcp-protocol-version", MODERN), ("mcp-method", "server/discover"), ("Mcp-Method", "server/discover")]
    answer = await http.post("/mcp", json=request("server/discover", {"_meta": ENVELOPE}), headers=sent)
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32020)


async def test_a_version_nobody_speaks_is_refused_with_those_we_do(http: httpx2.AsyncClient) -> None:
    envelope = ENVELOPE | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = await modern(http, "server/discover", {"_meta": envelope}, mcp_protocol_version="2099-01-01")
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32022)
    assert error_of(answer)["data"]["supported"] == [MODERN]


async def test_a_request_without_its_envelope_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await modern(http, "server/discover", {"_meta": {}})
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32602)


async def test_parameter_headers_are_compared_with_the_arguments(http: httpx2.AsyncClient) -> None:
    call = {"name": "echo_from_region", "arguments": {"region": "eu"}}
    assert (await modern(http, "tools/call", call, mcp_param_region="eu")).status_code == 200
    wrong = await modern(http, "tools/call", call, mcp_param_region="us")
    missing = await modern(http, "tools/call", call)
    assert [error_of(answer)["code"] for answer in (wrong, missing)] == [-32020, -32020]


async def test_a_trailing_slash_is_the_same_endpoint_and_no_redirect(http: httpx2.AsyncClient) -> None:
    assert (await handshake(http, "ping", url="/mcp/")).status_code == 200
