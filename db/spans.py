"""OpenTelemetry API spans that cost next to nothing until somebody installs an SDK.

Only ``opentelemetry-api`` is imported. Attributes carry names, ids and codes; never a body, a header or a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from time import monotonic
from typing import Any, Final, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, Tracer

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_tracer: Final = trace.get_tracer("innkeeper.db")
IDLE: Final[AbstractContextManager[Span]] = nullcontext(INVALID_SPAN)


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


active: Final = _Installed()
"""Whether spans go anywhere; without a tracer provider none is even built."""


def span(tracer: Tracer, name: str, attribute: str = "", value: str = "") -> AbstractContextManager[Span]:
    """A span around a block, with one attribute if named. Exceptions are recorded on it and raised on."""
    if not active():
        return IDLE
    return tracer.start_as_current_span(name, attributes={attribute: value} if attribute else None)


def traced(
    query: Callable[Parameters, Coroutine[Any, Any, Result]],
) -> Callable[Parameters, Coroutine[Any, Any, Result]]:
    """A span around a query, named by its family: ``db.projects.page``."""
    name = f"{query.__module__}.{query.__name__}"

    @wraps(query)
    async def with_span(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        if not active():
            return await query(*arguments, **named)
        with _tracer.start_as_current_span(name):
            return await query(*arguments, **named)

    return with_span
