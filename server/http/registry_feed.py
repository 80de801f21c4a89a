"""``/r/...``: what the shadcn CLI installs from.

To everybody, for a project that has made its registry public: ``/r/{project}/registry.json``, ``/{name}.json``,
``/{name}@{version}.json``. To who has a feed key: the same under ``/r/`` alone, the project being that of the key. What
is not there answers the same as what is somebody else's.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from db import feed as feeds
from db.components import Search
from db.database import Database
from db.errors import AppError, invalid, not_found, unauthenticated
from db.feed import Feed
from db.principal import Principal
from server.http import feed_defaults, feed_items
from server.http.conditional import etag_of, has_it, not_modified
from server.http.problem import problem_response
from server.mcp.bearer import bearer_token
from tools.component_item import TYPES
from tools.dispatch import Dispatch
from tools.publishing import selection

FRESH: Final = "max-age=0, must-revalidate"
FOREVER: Final = "max-age=31536000, immutable"
PUBLIC: Final = re.compile(r"/r/[0-9a-fA-F-]{36}/[^/]+\.json")
"""Where everybody may read, and pages of any origin: the project is in the path, and no key is looked at."""
MOST: Final = 10_000
"""Components in one registry.json."""


class FeedServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def database(self) -> Database: ...

    @property
    def dispatch(self) -> Dispatch: ...

    @property
    def public_url(self) -> str | None: ...


def routes(services: FeedServices) -> list[BaseRoute]:
    """The routes over ``services``."""

    async def registry(request: Request) -> Response:
        return await _registry(services, request)

    async def item(request: Request) -> Response:
        return await _item(services, request)

    return [
        *feed_defaults.routes(),
        Route("/r/registry.json", _answering(registry), name="feed-registry"),
        Route("/r/{item}.json", _answering(item), name="feed-item"),
        Route("/r/{project:uuid}/registry.json", _answering(registry), name="public-feed-registry"),
        Route("/r/{project:uuid}/{item}.json", _answering(item), name="public-feed-item"),
    ]


def _answering(endpoint: Any) -> Any:
    """The endpoint, whose refusals are problem documents; those of keys say how a key is sent (RFC 6750, 3)."""

    async def answer(request: Request) -> Response:
        try:
            response: Response = await endpoint(request)
        except AppError as error:
            challenge = [(b"www-authenticate", b'Bearer realm="registry"')] if error.status == 401 else []
            response = problem_response(error, challenge)
        if "project" not in request.path_params:
            response.headers["vary"] = "Authorization"
        return response

    return answer


@asynccontextmanager
async def _opened(services: FeedServices, request: Request) -> AsyncIterator[Feed]:
    """The registry that is asked for. Raises ``AppError``: 401 without a feed key where one is needed, else 404."""
    project_id = request.path_params.get("project")
    if isinstance(project_id, UUID):
        opening = feeds.public(services.database, project_id)
    else:
        opening = feeds.keyed(services.database, await _caller(services, request))
    async with opening as feed:
        if feed is None:
            raise _nothing()
        yield feed


async def _caller(services: FeedServices, request: Request) -> Principal:
    token = bearer_token(request.scope)
    found = await feeds.caller(services.database, token) if token is not None else None
    if found is None:
        raise unauthenticated("This needs a feed key of the project: 'innkeeper keys create --feed' makes one.")
    await services.dispatch.services.limits.admit(found)
    return found


async def _registry(services: FeedServices, request: Request) -> Response:
    query = request.query_params
    types = [one for one in query.get("type", "").split(",") if one]
    if unknown := [one for one in types if one not in TYPES]:
        raise invalid(f"There is no type {unknown[0][:80]}.", f"Types are {', '.join(TYPES)}.")
    skip, limit = _number(query.get("offset"), 0), _number(query.get("limit"), MOST)
    # The database looks for one type at most: of several all are fetched, and those of other types left out here.
    apart = len(types) > 1
    search = Search(
        query.get("q", "")[:200],
        types[0] if len(types) == 1 else None,
        skip=0 if apart else skip,
        limit=MOST if apart else min(limit, MOST),
    )
    async with _opened(services, request) as feed:
        rows = await feed.listed(search)
    total = rows[0]["total"] if rows else 0
    if apart:
        rows = [row for row in rows if json.loads(row["item"])["type"] in types]
        total, rows = len(rows), rows[skip : skip + limit]
    paging: dict[str, Any] = {}
    if "limit" in query or "offset" in query:
        more = skip + len(rows) < total
        paging = {"pagination": {"total": total, "offset": skip, "limit": limit, "hasMore": more}}
    base = _base(services, request)
    address = feed_items.address(feed, base)
    body = _json(feed_items.catalogue(feed, rows, address, base, paging))
    headers = _headers(feed, FRESH)
    etag = etag_of(body)
    if has_it(request, etag):
        return not_modified(etag, headers)
    return Response(body, headers={**headers, "etag": etag}, media_type="application/json")


async def _item(services: FeedServices, request: Request) -> Response:
    name, _, version = request.path_params["item"].partition("@")
    async with _opened(services, request) as feed:
        try:
            chosen = selection(version or None)
        except ValueError:
            raise _nothing() from None
        row = await feed.at(name, chosen) if "\x00" not in name else None
    if row is None:
        raise _nothing()
    exact = chosen.exact is not None
    base = _base(services, request)
    said = "" if exact else f"{row['status']} {row['reason']}"
    prefix = f"{base} {feed.public} {feed.namespace}"
    etag = etag_of(feed_items.FORM, row["id"].bytes, prefix, said)
    headers = _headers(feed, FOREVER if exact else FRESH)
    if has_it(request, etag):
        return not_modified(etag, headers)
    address = feed_items.address(feed, base)
    body = _json(await feed_items.whole(services.dispatch.services.store, feed, row, address, exact=exact))
    return Response(body, headers={**headers, "etag": etag}, media_type="application/json")


def _headers(feed: Feed, how_long: str) -> dict[str, str]:
    return {"cache-control": f"{'public' if feed.public else 'private'}, {how_long}"}


def _base(services: FeedServices, request: Request) -> str:
    return (services.public_url or str(request.base_url)).rstrip("/")


def _nothing() -> AppError:
    return not_found("component", "See what there is: registry.json beside it.")


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 9 else default


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
