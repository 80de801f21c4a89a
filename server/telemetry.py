"""The spans of the edge; what they cost and may carry is said in ``db.spans``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind

from db.spans import IDLE, active

__all__ = ["active", "server_span", "tracer"]

tracer = trace.get_tracer("innkeeper")


def server_span(name: str, carrier: Mapping[str, str]) -> AbstractContextManager[Span]:
    """A SERVER span around the handling of one request, a child of the ``traceparent`` in ``carrier`` if there is one.

    Exceptions are recorded on it and raised on.
    """
    if not active():
        return IDLE
    return tracer.start_as_current_span(name, context=extract(carrier), kind=SpanKind.SERVER)


def consumer_span(name: str, carrier: Mapping[str, str]) -> AbstractContextManager[Span]:
    """A CONSUMER span around the work on one job, a child of whoever added it, by the ``traceparent`` in ``carrier``.

    Exceptions are recorded on it and raised on.
    """
    if not active():
        return IDLE
    return tracer.start_as_current_span(name, context=extract(carrier), kind=SpanKind.CONSUMER)
