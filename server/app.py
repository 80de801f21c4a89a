"""The whole HTTP application: every route, inside the middleware that all of them share.

From the outside in: errors as pages for browsers, front door (id, clean headers, log, count, crash), host and origin,
body limit, routes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from db.errors import AppError
from server.http import (
    calls,
    component_state,
    health,
    presign,
    preview,
    registry_feed,
    registry_webhook,
    resend_webhooks,
    runs,
    storage_events,
)
from server.http.address import MCP_PATH
from server.http.body_limit import BodyLimit
from server.http.callers import Callers
from server.http.files import ROUTE as FILES_ROUTE
from server.http.files import FileEdge
from server.http.front_door import FrontDoor
from server.http.host_guard import HostGuard
from server.http.pages_of_keys import PagesOfKeys
from server.http.problem import render_app_error, render_http_exception
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import PATH as FILES_PATH
from server.jobs.figures import JobFigures
from server.limits.newcomers import Newcomers
from server.mail.invitations import InvitationMail
from server.mcp import endpoint
from server.metrics import Metrics
from server.oauth import endpoints, metadata, registration
from server.oauth.exchange import EndUserGrants
from server.oauth.issuer_keys import IssuerKeys
from server.oauth.known_clients import KnownClients
from server.oauth.subject_tokens import SubjectTokens
from server.oauth.token_sources import TokenSources
from server.openapi import document as openapi
from server.openapi.house import Offered
from server.site import (
    account,
    administration,
    approvals,
    apps,
    audit,
    authorize,
    device,
    invitations,
    issuer_sign_in,
    keys,
    mail_account,
    mail_link,
    mails,
    members,
    own_sessions,
    project_list,
    project_settings,
    provider_keys,
    sign_in,
    unsubscribe,
)
from server.site import end_users as end_users_page
from server.site.error_pages import ErrorPages
from server.site.pages import Site
from server.site.rendering import style_route
from server.v1 import routes as v1
from server.vault import Vault
from tools.outside import NOTHING_OUTSIDE

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
    site = Site(services)
    newcomers = services.newcomers or Newcomers(services.database)
    outside = services.dispatch.services.outside if services.client_documents else NOTHING_OUTSIDE
    clients = KnownClients(services.database, outside, newcomers)
    pages = PagesOfKeys(services.database, loopback=services.loopback_pages)
    callers = Callers(services.database, services.authenticator, pages)
    issuers = IssuerKeys(services.dispatch.services.outside)
    vault = Vault(services.keyring)
    subjects = SubjectTokens(vault, services.dispatch.services.outside, issuers)
    sources = TokenSources(vault, services.dispatch.services.outside, issuers)
    end_users = EndUserGrants(services.database, subjects, pages, newcomers)
    routes: list[BaseRoute] = [
        Route(MCP_PATH, mcp_app),
        Route(MCP_PATH + "/", mcp_app),
        *mcp_app.resource.routes(),
        *preview.routes(services, mcp_app.resource),
        *calls.routes(services, mcp_app.resource),
        *runs.routes(services, callers),
        component_state.route(services, callers),
        *v1.routes(services, callers),
        *registry_feed.routes(services),
        *registry_webhook.routes(services),
        *presign.routes(services, callers),
        *storage_events.routes(services),
        style_route(),
        *sign_in.routes(site),
        *mail_link.routes(site, newcomers),
        *project_list.routes(site),
        *project_settings.routes(site),
        *issuer_sign_in.routes(site, newcomers),
        *account.routes(site),
        *administration.routes(site),
        *approvals.routes(site),
        *authorize.routes(site, clients),
        *device.routes(site, newcomers),
        *apps.routes(site),
        *own_sessions.routes(site),
        *keys.routes(site),
        *provider_keys.routes(site, vault, services.provider_checks),
        *end_users_page.routes(site, sources),
        *mails.routes(site, services.post),
        *mail_account.routes(site, services.post),
        *members.routes(site, InvitationMail(services.post)),
        *invitations.routes(site),
        *audit.routes(site),
        *unsubscribe.routes(services.database, services.post),
        *metadata.routes(site.address, documents=clients.documents),
        *endpoints.routes(services.database, site.address, newcomers, end_users),
        *registration.routes(services.database, newcomers),
        *resend_webhooks.routes(services.database, services.post),
        *health.routes(services.database, metrics, services.metrics_token),
    ]
    offered = Offered(
        files=isinstance(services.store, LocalFiles),
        metrics=services.metrics_token is not None,
        bucket=services.bucket_events is not None,
    )
    routes += openapi.routes(routes, lambda request: site.address.base(request.scope), offered)
    metrics.add_gauges("innkeeper_runs", "Agent runs of this process.", "state", services.engine.states)
    metrics.add_gauges(
        "innkeeper_pool_connections", "Connections of the pool.", "state", lambda: _pool(services.database)
    )
    metrics.add_figures(JobFigures(services.database))

    def guarded(app: ASGIApp) -> HostGuard:
        hosts, origins = services.allowed_hosts, services.allowed_origins
        urls = (services.public_url, services.files_url)
        return HostGuard(BodyLimit(app), hosts, origins, *urls, for_all_pages=registry_feed.PUBLIC, pages=pages)

    guard = guarded(mcp_app)
    app = House(
        FrontDoor(guard, metrics, MCP_PATH),
        _files(services, guard, metrics),
        lambda app: ErrorPages(FrontDoor(app, metrics)),
        routes=routes,
        middleware=[Middleware(guarded)],
        exception_handlers={AppError: render_app_error, HTTPException: render_http_exception},
    )
    # A redirect of a POST loses its token in some clients; a path is either served or it is not.
    app.router.redirect_slashes = False
    app.state.mcp_app = mcp_app
    app.state.metrics = metrics
    return app


class House(Starlette):
    """The application. What most requests ask for has a way of its own, in by the same doors and past the router.
    ``files``, if it serves any: they have doors of their own, through which long bodies pass. ``door`` puts the doors
    before all the rest, so that what is open for long holds nothing of the router."""

    def __init__(self, mcp: ASGIApp, files: ASGIApp | None, door: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._mcp = mcp
        self._files = files
        self._rest = door(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == MCP_PATH:
            await self._mcp(scope, receive, send)
        elif self._files is not None and scope["type"] == "http" and scope["path"].startswith(FILES_PATH):
            await self._files(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


def _files(services: Services, guard: HostGuard, metrics: Metrics) -> ASGIApp | None:
    """The way to the files of this machine: under their own host if they have one, else under all of ours."""
    store, url = services.store, services.files_url
    if not isinstance(store, LocalFiles):
        return None
    own = urlsplit(url).netloc.lower() if url is not None and url != services.public_url else None
    edge = FileEdge(store, guard.allows_host if own is None else lambda host: host.lower() == own)
    return FrontDoor(edge, metrics, FILES_ROUTE)


def _pool(database: Database) -> dict[str, float]:
    stats = database.stats()
    return {"open": stats.size, "idle": stats.idle, "limit": stats.limit}
