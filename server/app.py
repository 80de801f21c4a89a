"""The whole HTTP application: every route, inside the middleware that all of them share.

From the outside in: front door (id, clean headers, log, count, crash), host and origin, body limit, routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from db.errors import AppError
from server.http import health, preview, runs
from server.http.body_limit import BodyLimit
from server.http.front_door import FrontDoor
from server.http.host_guard import HostGuard
from server.http.problem import render_app_error, render_http_exception
from server.mcp import endpoint
from server.mcp.resource import MCP_PATH
from server.metrics import Metrics
from server.site import approvals

if TYPE_CHECKING:
    from db.database import Database
    from server.services import Services


def create_app(services: Services) -> Starlette:
    """The application over ``services``. It opens and closes none of them: whoever made them does.

    ``app.state.mcp_app`` is the bare MCP endpoint for in-process callers, ``app.state.metrics`` what ``/metrics``
    shows.
    """
    metrics = Metrics()
    mcp_app = endpoint.build(services)
    routes: list[BaseRoute] = [
        Route(MCP_PATH, mcp_app),
        Route(MCP_PATH + "/", mcp_app),
        *mcp_app.resource.routes(),
        *preview.routes(services, mcp_app.resource),
        *runs.routes(services),
        *approvals.routes(services),
        *health.routes(services.database, metrics, services.metrics_token),
    ]
    metrics.add_gauges("innkeeper_runs", "Agent runs of this process.", "state", services.engine.states)
    metrics.add_gauges(
        "innkeeper_pool_connections", "Connections of the pool.", "state", lambda: _pool(services.database)
    )
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(FrontDoor, metrics=metrics),
            Middleware(
                HostGuard,
                allowed_hosts=services.allowed_hosts,
                allowed_origins=services.allowed_origins,
                public_url=services.public_url,
            ),
            Middleware(BodyLimit),
        ],
        exception_handlers={AppError: render_app_error, HTTPException: render_http_exception},
    )
    # A redirect of a POST loses its token in some clients; a path is either served or it is not.
    app.router.redirect_slashes = False
    app.state.mcp_app = mcp_app
    app.state.metrics = metrics
    return app


def _pool(database: Database) -> dict[str, float]:
    stats = database.stats()
    return {"open": stats.size, "idle": stats.idle, "limit": stats.limit}
