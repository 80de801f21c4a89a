"""Pages of allowed origins call us from a browser; all others are told nothing."""

import httpx2
import pytest

from tests.server.edge_services import FULL_KEY, edge_app, edge_services

PAGE = "https://app.example"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def browser(origin: str) -> httpx2.AsyncClient:
    services = edge_services(allowed_origins=(PAGE,))
    transport = httpx2.ASGITransport(app=edge_app(services))
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers={"origin": origin})


@pytest.mark.promise("HOME-11")
async def test_an_allowed_page_may_ask_beforehand_and_then_read_the_answer() -> None:
    async with browser(PAGE) as http:
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,mcp-protocol-version",
        }
        preflight = await http.options("/mcp", headers=asked)
        headers = {"authorization": f"Bearer {FULL_KEY}", "accept": "application/json"}
        answer = await http.post("/mcp", json=PING, headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert preflight.headers["access-control-allow-methods"] == "POST"
    assert preflight.headers["access-control-allow-headers"] == asked["access-control-request-headers"]
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


async def test_an_allowed_page_can_read_why_it_was_refused() -> None:
    async with browser(PAGE) as http:
        answer = await http.post("/mcp", json=PING)
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "www-authenticate" in answer.headers["access-control-expose-headers"]


@pytest.mark.promise("HOME-11")
async def test_a_page_that_is_not_allowed_gets_no_preflight_and_no_answer() -> None:
    async with browser("https://evil.example") as http:
        preflight = await http.options("/mcp", headers={"access-control-request-method": "POST"})
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


async def test_a_request_that_is_no_browsers_carries_no_cors_headers() -> None:
    async with browser(PAGE) as http:
        del http.headers["origin"]
        answer = await http.get("/healthz")
    assert not [name for name in answer.headers if name.startswith("access-control")]
