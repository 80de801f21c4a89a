"""The application as a whole: what its parts do together."""

import json
import logging

import httpx2
import pytest

from server import logs
from tests.server.edge_services import FULL_KEY, EdgeServices, edge_app, edge_services


def client(services: EdgeServices) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {FULL_KEY}", "accept": "application/json"}
    transport = httpx2.ASGITransport(app=edge_app(services))
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


def call(name: str, **arguments: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def test_an_unknown_path_is_a_problem_that_names_the_way() -> None:
    async with client(edge_services()) as http:
        answer = await http.get("/nothing/here")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "/mcp" in answer.json()["hint"]


async def test_a_wrong_method_is_a_problem_with_allow() -> None:
    async with client(edge_services()) as http:
        answer = await http.delete("/healthz")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert answer.json()["type"] == "urn:innkeeper:error:method_not_allowed"


@pytest.mark.promise("HOME-11")
async def test_hosts_origins_and_bodies_are_guarded_for_every_route() -> None:
    async with client(edge_services()) as http:
        for path in ("/mcp", "/healthz", "/.well-known/oauth-protected-resource"):
            assert (await http.get(path, headers={"host": "evil.example"})).status_code == 421
            assert (await http.get(path, headers={"origin": "https://evil.example"})).status_code == 403
        too_much = json.dumps(call("echo", text="x" * 4 * 1024 * 1024))
        answer = await http.post("/mcp", content=too_much, headers={"content-type": "application/json"})
        assert answer.status_code == 413


@pytest.mark.promise("HOME-11")
async def test_a_body_just_under_four_mebibytes_is_served() -> None:
    async with client(edge_services()) as http:
        answer = await http.post("/mcp", json=call("echo", text="x" * 3_900_000))
    said = answer.json()["result"]["structuredContent"]["said"]
    assert said.startswith("xxx")
    assert "more characters were left out" in said
    assert len(said) < 5_000


@pytest.mark.promise("HOME-61")
async def test_the_access_line_names_tool_and_error_and_never_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "innkeeper.access")
    async with client(edge_services()) as http:
        answer = await http.post("/mcp?read_only=1", json=call("fail_for_now"))
    (record,) = [record for record in caplog.records if record.name == "innkeeper.access"]
    line = json.loads(logs.JsonFormatter(logs.Redaction()).format(record))
    assert (line["route"], line["tool"], line["error"]) == ("/mcp", "fail_for_now", "unavailable")
    assert FULL_KEY not in line.values()
    assert "read_only" not in json.dumps(line)
    assert answer.headers["x-request-id"]


@pytest.mark.promise("HOME-61")
async def test_requests_are_counted_by_route_template_method_and_status() -> None:
    async with client(edge_services(metrics_token="s3cret")) as http:
        await http.post("/mcp", json=call("echo", text="x"))
        for path in ("/a", "/b", "/c"):
            await http.get(path)
        shown = (await http.get("/metrics", headers={"authorization": "Bearer s3cret"})).text
    assert 'innkeeper_http_requests_total{method="POST",route="/mcp",status="200"} 1.0' in shown
    assert 'innkeeper_http_requests_total{method="GET",route="unmatched",status="404"} 3.0' in shown
    assert 'innkeeper_http_request_seconds_count{route="/mcp"} 1.0' in shown
    assert 'innkeeper_runs{state="live"} 0.0' in shown
    assert 'innkeeper_pool_connections{state="idle"} 2.0' in shown


async def test_answers_are_never_stored_by_caches() -> None:
    async with client(edge_services()) as http:
        assert (await http.post("/mcp", json=call("echo", text="x"))).headers["cache-control"] == "no-store"
