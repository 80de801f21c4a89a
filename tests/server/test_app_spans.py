"""Spans at the edge, with the OpenTelemetry API alone: no SDK is needed to see that they are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from server import telemetry
from tests.server.edge_services import FULL_KEY, edge_app, edge_services

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {
    "authorization": f"Bearer {FULL_KEY}",
    "accept": "application/json",
    "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01",
}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "secret"}}}


class RecordingTracer(trace.NoOpTracer):
    """Notes what is started; the spans themselves do nothing."""

    def __init__(self) -> None:
        self.started: list[tuple[str, SpanKind, str, dict[str, Any]]] = []

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # the API's own decorator hides that this is a generator
        self, name: str, context: Context | None = None, kind: SpanKind = SpanKind.INTERNAL, **options: Any
    ) -> Iterator[Span]:
        parent = trace.get_current_span(context).get_span_context()
        self.started.append((name, kind, f"{parent.trace_id:032x}", options))
        yield INVALID_SPAN


async def call_echo() -> httpx2.Response:
    transport = httpx2.ASGITransport(app=edge_app(edge_services()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=HEADERS) as http:
        return await http.post("/mcp", json=CALL)


@pytest.mark.promise("HOME-61")
async def test_a_tool_call_is_a_server_span_under_the_callers_trace_without_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracer = RecordingTracer()
    monkeypatch.setattr(telemetry, "tracer", tracer)
    monkeypatch.setattr(telemetry, "active", lambda: True)
    assert (await call_echo()).status_code == 200
    ((name, kind, trace_id, options),) = tracer.started
    assert (name, kind, trace_id) == ("tools/call echo", SpanKind.SERVER, TRACE_ID)
    assert "secret" not in repr(options)


async def test_without_a_tracer_provider_no_span_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = RecordingTracer()
    monkeypatch.setattr(telemetry, "tracer", tracer)
    assert not telemetry.active()
    assert (await call_echo()).status_code == 200
    assert tracer.started == []
