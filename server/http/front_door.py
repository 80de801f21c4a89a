"""The outermost middleware: every request gets an id, clean headers, a log line, a count and a safe end.

What it guarantees to everything behind it: header values carry no surrounding white space (some parsers leave it on);
no socket can bring a run grant (``innkeeper.principal`` is taken out of the scope); a crash becomes a 500 that says
nothing, with the traceback in the log under the same request id.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db import origin
from server import logs
from server.http.access import log_access
from server.http.fields import FIELDS_KEY, fields_of
from server.http.one_write import WHOLE
from server.http.problem import crash, send_problem
from server.http.request_id import request_id_from
from server.metrics import Metrics

GRANT_KEY = "innkeeper.principal"
"""The ASGI scope key that carries a run's principal; only the in-process transport may set it."""

error_log = logging.getLogger("innkeeper.error")

_WHITE = b" \t"
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_SECURITY_NAMES = frozenset(name for name, _ in _SECURITY_HEADERS)


class FrontDoor:
    """ASGI middleware; put it outside everything else, and only around what sockets reach.

    ``route``: what lines and counters call everything behind it; without one, the template of the route that served.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, route: str | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            scope.pop(GRANT_KEY, None)
            await self.app(scope, receive, send)
            return
        scope.pop(GRANT_KEY, None)
        if WHOLE not in scope:
            scope.pop(FIELDS_KEY, None)
            _clean(scope)
        request_id = request_id_from(fields_of(scope).get(b"x-request-id"))
        token = logs.request_id.set(request_id)
        came_from = origin.come((scope.get("client") or ("",))[0], fields_of(scope).get(b"user-agent", b""))
        began = perf_counter()
        status = 0

        async def stamped_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = (b"x-request-id", request_id.encode())
                if WHOLE in message:
                    # The endpoint's own making, and nobody else's: it holds none of these, and its list may grow.
                    message["headers"] += (*_SECURITY_HEADERS, said)
                else:
                    headers = message.get("headers", ())
                    message = {**message, "headers": [*headers, *_missing_security_headers(headers), said]}
            await send(message)

        try:
            await self.app(scope, receive, stamped_send)
            if (afterwards := fields_of(scope).afterwards) is not None:
                await afterwards(send)
        except Exception:
            error_log.exception("request crashed", extra={"path": scope["path"], "method": scope["method"]})
            if status:
                # The answer has begun: the server must cut the connection, or half of it would pass for the whole.
                raise
            await send_problem(stamped_send, crash())
        finally:
            elapsed = perf_counter() - began
            route = self.route or _route(scope)
            self.metrics.observe_request(route, scope["method"], status, elapsed)
            log_access(scope, route, status, elapsed)
            logs.request_id.reset(token)
            origin.leave(came_from)


def _clean(scope: Scope) -> None:
    """Strip header values. A value with nothing to strip comes back as itself."""
    for _, value in scope["headers"]:
        if value.strip(_WHITE) is not value:
            scope["headers"] = [(name, value.strip(_WHITE)) for name, value in scope["headers"]]
            return


def _missing_security_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    for name, _ in headers:
        if name in _SECURITY_NAMES:
            present = {name for name, _ in headers}
            return [pair for pair in _SECURITY_HEADERS if pair[0] not in present]
    return _SECURITY_HEADERS


def _route(scope: Scope) -> str:
    """The route's template, never the path itself: a metric label must not grow with what callers type."""
    return getattr(scope.get("route"), "path", "unmatched")
