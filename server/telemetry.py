"""OpenTelemetry API spans: a tracer that costs next to nothing until somebody installs an SDK.

Only ``opentelemetry-api`` is imported. Attributes carry names, ids and codes; never a body, a header or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from time import monotonic

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

tracer = trace.get_tracer("innkeeper")

_IDLE: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)


class _Installed:
    """Whether a tracer provider was installed, asked again each second: asking costs a look into the environment."""

    def __init__(self) -> None:
        self._asked = float("-inf")
        self._answer = False

    def __call__(self) -> bool:
        now = monotonic()
        if now - self._asked >= 1:
            self._asked = now
            none = trace.ProxyTracerProvider | trace.NoOpTracerProvider
            self._answer = not isinstance(trace.get_tracer_provider(), none)
        return self._answer


active = _Installed()
"""Whether spans go anywhere; without a tracer provider none is even built."""


def server_span(name: str, carrier: Mapping[str, str]) -> AbstractContextManager[Span]:
    """A SERVER span around the handling of one request, a child of the ``traceparent`` in ``carrier`` if there is one.

    Exceptions are recorded on it and raised on.
    """
    if not active():
        return _IDLE
    return tracer.start_as_current_span(name, context=extract(carrier), kind=SpanKind.SERVER)
