"""``/healthz``, ``/readyz`` and ``/metrics`` as an orchestrator sees them."""

import httpx2
import pytest
from starlette.applications import Starlette

from db.errors import AppError
from server.http import health
from server.http.problem import render_app_error
from server.metrics import Metrics
from tests.server.edge_services import PingedDatabase


def client(database: PingedDatabase, token: str | None = None, metrics: Metrics | None = None) -> httpx2.AsyncClient:
    routes = health.routes(database, metrics or Metrics(), token)
    app = Starlette(routes=routes, exception_handlers={AppError: render_app_error})
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


@pytest.mark.promise("HOME-61")
async def test_healthz_is_200_while_the_process_lives_even_without_a_database() -> None:
    async with client(PingedDatabase(away=True)) as http:
        answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.promise("HOME-61")
async def test_readyz_is_200_when_the_database_answers() -> None:
    async with client(PingedDatabase()) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.promise("HOME-61")
@pytest.mark.parametrize("database", [PingedDatabase(away=True), PingedDatabase(hangs=True)])
async def test_readyz_is_503_with_retry_after_when_the_database_is_away_or_hangs(
    database: PingedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PING_SECONDS", 0.05)
    async with client(database) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["retryable"] is True


@pytest.mark.promise("HOME-61")
async def test_metrics_do_not_exist_without_a_token() -> None:
    async with client(PingedDatabase()) as http:
        answer = await http.get("/metrics", headers={"authorization": "Bearer anything"})
    assert answer.status_code == 404


@pytest.mark.promise("HOME-61")
@pytest.mark.parametrize("sent", [None, "Bearer wrong", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cretx"])
async def test_metrics_want_their_token(sent: str | None) -> None:
    async with client(PingedDatabase(), "s3cret") as http:
        answer = await http.get("/metrics", headers={"authorization": sent} if sent else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "s3cret" not in answer.text


@pytest.mark.promise("HOME-61")
async def test_metrics_show_requests_and_gauges_to_who_has_the_token() -> None:
    metrics = Metrics()
    metrics.observe_request("/mcp", "POST", 200, 0.004)
    metrics.observe_request("/mcp", "POST", 200, 0.4)
    metrics.add_gauges("innkeeper_pool_connections", "Connections.", "state", lambda: {"open": 3, "idle": 2})
    async with client(PingedDatabase(), "s3cret", metrics) as http:
        answer = await http.get("/metrics", headers={"authorization": "Bearer s3cret"})
    assert answer.status_code == 200
    lines = set(answer.text.splitlines())
    assert lines >= {
        'innkeeper_http_requests_total{method="POST",route="/mcp",status="200"} 2.0',
        'innkeeper_http_request_seconds_bucket{le="0.005",route="/mcp"} 1.0',
        'innkeeper_http_request_seconds_count{route="/mcp"} 2.0',
        'innkeeper_pool_connections{state="open"} 3.0',
        'innkeeper_pool_connections{state="idle"} 2.0',
    }
