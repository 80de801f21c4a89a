from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span

from db import spans
from tests.conftest import Tenant
from tools import dispatch as dispatching
from tools.dispatch import Dispatch


class RecordingTracer(trace.NoOpTracer):
    """Notes the names of what is started; the spans themselves do nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []

    @contextmanager
    def start_as_current_span(self, name: str, **_options: Any) -> Iterator[Span]:  # type: ignore[override]  # as the API
        self.started.append(name)
        yield INVALID_SPAN


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> RecordingTracer:
    tracer = RecordingTracer()
    monkeypatch.setattr(spans, "_tracer", tracer)
    monkeypatch.setattr(dispatching, "_tracer", tracer)
    return tracer


@pytest.mark.promise("HOME-61")
async def test_a_tool_call_and_each_query_family_below_it_have_a_span(
    dispatch: Dispatch, tenant: Tenant, tracer: RecordingTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "active", lambda: True)

    await dispatch.call(tenant.principal, "get_project", {"project_id": str(tenant.project_id)})
    await dispatch.call(tenant.principal, "list_projects", {})

    assert tracer.started == ["tool.call", "db.projects.read", "tool.call", "db.projects.page"]


async def test_without_a_tracer_provider_no_span_is_built(
    dispatch: Dispatch, tenant: Tenant, tracer: RecordingTracer
) -> None:
    await dispatch.call(tenant.principal, "list_projects", {})

    assert tracer.started == []
