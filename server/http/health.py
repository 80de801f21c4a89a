"""What load balancers, orchestrators and scrapers ask: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from db.errors import AppError
from server.http.problem import problem_response
from server.metrics import Metrics

log = logging.getLogger("innkeeper.health")

PING_SECONDS = 1.0


class Pingable(Protocol):
    def ping(self) -> Awaitable[object]:
        """Returns when the database answers, raises when it does not."""


def routes(database: Pingable, metrics: Metrics, metrics_token: str | None) -> list[Route]:
    """``/healthz`` is 200 while the process lives; ``/readyz`` is 503 while the database does not answer in a second.

    ``/metrics`` does not exist (404) without ``metrics_token``, and wants it as a bearer token otherwise.
    """

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        try:
            async with asyncio.timeout(PING_SECONDS):
                await database.ping()
        except Exception as error:  # noqa: BLE001  whatever it is, we are not ready
            log.warning("not ready: %s", type(error).__name__)
            return problem_response(_not_ready())
        return JSONResponse({"status": "ready"})

    async def show_metrics(request: Request) -> Response:
        if not metrics_token:
            raise AppError(
                "route_not_found",
                404,
                "Metrics are not served.",
                "Set a metrics token to have them served at /metrics.",
            )
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), metrics_token.encode()):
            return problem_response(
                AppError("unauthenticated", 401, "Metrics need the metrics token.", "Send it as a bearer token."),
                [(b"www-authenticate", b"Bearer")],
            )
        await metrics.read()
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)]


def _not_ready() -> AppError:
    return AppError(
        "not_ready",
        503,
        "The database does not answer.",
        "Wait; this address answers 200 as soon as it does.",
        retryable=True,
        retry_after=1,
    )
