"""How the endpoints of the authorization server answer: JSON that nobody keeps, errors in the form of RFC 6749 5.2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from db.errors import AppError
from server.oauth.requests import Parameters, description

NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
MOST_BYTES: Final = 64 * 1024

Endpoint = Callable[[Request], Awaitable[Response]]


def answer(document: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(document, status, headers=NO_STORE)


def refuse(error: AppError, request: Request) -> Response:
    """``error`` as RFC 6749 5.2 has it; 429 and 503 say when to come again."""
    code = {429: "slow_down", 503: "temporarily_unavailable"}.get(error.status, error.code)
    headers = dict(NO_STORE)
    if error.status == 401:
        headers["www-authenticate"] = 'Basic realm="Innkeeper", charset="UTF-8"'
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return JSONResponse({"error": code, "error_description": description(error)}, error.status, headers=headers)


def route(path: str, endpoint: Endpoint) -> Route:
    """A POST endpoint; what goes wrong in it is answered as OAuth has it."""

    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except AppError as error:
            return refuse(error, request)

    return Route(path, answering, methods=["POST"])


async def form(request: Request) -> Parameters:
    """The parameters of a form. Raises ``AppError`` ``invalid_request`` for what is none."""
    if request.headers.get("content-type", "").split(";", 1)[0].strip().lower() != "application/x-www-form-urlencoded":
        raise wrong("The request must be application/x-www-form-urlencoded.")
    try:
        found = Parameters((await body(request)).decode())
    except UnicodeDecodeError:
        raise wrong("The request is not UTF-8.") from None
    if found.repeated:
        raise wrong(f"{found.repeated[0][:40]} comes more than once.")
    return found


async def body(request: Request) -> bytes:
    """Raises ``AppError`` for one that is longer than any honest one."""
    received = b""
    async for chunk in request.stream():
        received += chunk
        if len(received) > MOST_BYTES:
            raise AppError("invalid_request", 413, "The request is too long.", f"Send at most {MOST_BYTES} bytes.")
    return received


def wrong(message: str) -> AppError:
    return AppError("invalid_request", 400, message, "See RFC 6749.")
