"""The one renderer of errors over plain HTTP: RFC 9457 problem details.

A body is ``{"type", "title", "status", "detail", "hint"?, "retryable", "request_id"?}`` and the fields of
:class:`db.errors.Details`; ``type`` is the stable code of the error as a URN (``urn:innkeeper:error:<code>``). 429 and
503 carry ``Retry-After`` in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Send

from db.errors import AppError
from server import logs

TYPE_PREFIX = "urn:innkeeper:error:"
MEDIA_TYPE: Final = "application/problem+json"
WHAT_IS_WHERE: Final = "MCP is served at /mcp; GET /openapi.json describes all other paths."
Headers = Iterable[tuple[bytes, bytes]]


def crash() -> AppError:
    """What a caller is told when something broke: nothing but the request id to quote."""
    request_id = logs.request_id.get()
    quoting = f", quoting request {request_id}" if request_id else ""
    return AppError(
        "internal_error",
        500,
        "Something broke on our side.",
        f"If it happens again, report it{quoting}.",
        retryable=True,
    )


def problem_body(error: AppError) -> bytes:
    """``error`` as the bytes of a problem+json document."""
    document: dict[str, object] = {
        "type": TYPE_PREFIX + error.code,
        "title": _title(error.status),
        "status": error.status,
        "detail": error.message,
        "retryable": error.retryable,
    }
    if error.hint is not None:
        document["hint"] = error.hint
    document.update(error.details)
    if request_id := logs.request_id.get():
        document["request_id"] = request_id
    return json.dumps(document).encode()


def problem_headers(error: AppError, body: bytes, extra: Headers = ()) -> list[tuple[bytes, bytes]]:
    """The headers that go with :func:`problem_body`; ``extra`` are appended as they are."""
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    headers.extend(extra)
    return headers


async def send_problem(send: Send, error: AppError, extra: Headers = ()) -> None:
    """Answer a whole ASGI request with ``error``."""
    body = problem_body(error)
    await send({"type": "http.response.start", "status": error.status, "headers": problem_headers(error, body, extra)})
    await send({"type": "http.response.body", "body": body})


def problem_response(error: AppError, extra: Headers = ()) -> Response:
    """``error`` as a Starlette response, for endpoints that return one."""
    body = problem_body(error)
    response = Response(body, status_code=error.status)
    response.raw_headers = problem_headers(error, body, extra)
    return response


async def render_app_error(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for :class:`AppError` raised by a route."""
    if not isinstance(error, AppError):
        raise error
    return problem_response(error)


async def render_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for what its router raises: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        headers["allow"] = ", ".join(sorted(_methods(request)))
    extra = [(name.encode(), value.encode()) for name, value in headers.items()]
    return problem_response(_routing_error(error.status_code, request), extra)


def _methods(request: Request) -> set[str]:
    """What all routes of this path answer together; the router itself names only those of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def _routing_error(status: int, request: Request) -> AppError:
    if status == 404:
        return AppError("route_not_found", 404, "There is nothing at this path.", WHAT_IS_WHERE)
    if status == 405:
        return AppError(
            "method_not_allowed",
            405,
            f"This path does not answer {request.method}.",
            "The Allow header names the methods it answers." + (f" {WHAT_IS_WHERE}" if request.url.path == "/" else ""),
        )
    return AppError("http_error", status, f"{_title(status)}.", "Check the address, the method and the headers.")


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
