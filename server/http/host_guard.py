"""Host and Origin allow-lists: what keeps a web page from reaching a server on somebody's laptop (DNS rebinding).

A Host that is not ours is 421, an Origin that is not ours is 403. Loopback names are always ours, in any port. Pages of
allowed origins may read our answers (CORS), and those of any origin what is public.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from db.errors import AppError
from server.http.cross_origin import answer_preflight, is_preflight, shared_with, shared_with_all
from server.http.fields import Fields, fields_of
from server.http.pages_of_keys import FOREIGN, PagesOfKeys
from server.http.problem import send_problem

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REMEMBERED = 256


class HostGuard:
    """ASGI middleware that answers requests for foreign hosts, or from foreign pages, itself.

    ``allowed_hosts``: host names, each with or without a port; without one, any port is meant. ``allowed_origins``:
    whole origins (``https://app.example.com``). ``public_url``'s host and origin are always allowed, ``files_url``'s,
    when it is another, never: nothing but files is served there. ``for_all_pages``: paths that pages of any origin may
    read, for what is there is anybody's. ``pages``: who else may call what the pages of tenants' products call.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        public_url: str | None = None,
        files_url: str | None = None,
        for_all_pages: re.Pattern[str] | None = None,
        pages: PagesOfKeys | None = None,
    ) -> None:
        self.app = app
        self._pages = pages
        self._hosts = {host.strip().lower() for host in (*LOOPBACK, *allowed_hosts) if host.strip()}
        self._origins = {_origin(origin) for origin in allowed_origins}
        if public_url:
            self._hosts.add(urlsplit(public_url).netloc.lower())
            self._origins.add(_origin(public_url))
        self._not_here = urlsplit(files_url).netloc.lower() if files_url and files_url != public_url else None
        self._for_all_pages = for_all_pages
        # Real traffic repeats a handful of values; refusals are not remembered, so a flood of names costs no memory.
        self._known_hosts: set[bytes] = set()
        self._known_origins: set[bytes] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """What is to be awaited; most requests need nothing here while they run."""
        if scope["type"] not in ("http", "websocket"):
            return self.app(scope, receive, send)
        fields = fields_of(scope)
        if self._is_for_all_pages(scope):
            error = self._host_fault(fields)
            return _refuse(scope, receive, send, error) if error else self.app(scope, receive, shared_with_all(send))
        if self in fields.known:
            return self.app(scope, receive, send)
        origin = fields.get(b"origin")
        error = self._host_fault(fields)
        if error is None:
            error = self._origin_fault(fields)
            if error is not None and self._pages is not None and self._pages.covers(scope):
                return self._of_tenants(scope, receive, send, error)
        if error is not None:
            return _refuse(scope, receive, send, error)
        if origin is None or scope["type"] == "websocket":
            fields.known[self] = True
            return self.app(scope, receive, send)
        if is_preflight(scope):
            return answer_preflight(scope, send, origin)
        return self.app(scope, receive, shared_with(origin, send))

    async def _of_tenants(self, scope: Scope, receive: Receive, send: Send, refusal: AppError) -> None:
        """A page that is not the house's own: let in if a key of anybody lists it."""
        fields = fields_of(scope)
        origin = fields[b"origin"]
        try:
            known = self._pages is not None and b"origin" not in fields.repeated and await self._pages.knows(origin)
        except AppError as error:
            await _refuse(scope, receive, send, error)
            return
        if not known:
            await send_problem(send, refusal, [(b"vary", b"origin")])
        elif is_preflight(scope):
            await answer_preflight(scope, send, origin)
        else:
            scope[FOREIGN] = True
            await self.app(scope, receive, shared_with(origin, send))

    def _is_for_all_pages(self, scope: Scope) -> bool:
        paths = self._for_all_pages
        return (
            paths is not None
            and scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and paths.fullmatch(scope["path"]) is not None
        )

    def _host_fault(self, fields: Fields) -> AppError | None:
        host = fields.get(b"host")
        if host is not None and b"host" not in fields.repeated:
            if host in self._known_hosts:
                return None
            if self.allows_host(host.decode("latin-1")):
                _remember(self._known_hosts, host)
                return None
        return AppError(
            "host_not_allowed",
            421,
            "This server does not answer for the Host of this request.",
            "Call it by its own address, or add the host to the allowed hosts of the server.",
        )

    def _origin_fault(self, fields: Fields) -> AppError | None:
        origin = fields.get(b"origin")
        if origin is None:
            return None
        if b"origin" not in fields.repeated:
            if origin in self._known_origins:
                return None
            if self.allows_origin(origin.decode("latin-1")):
                _remember(self._known_origins, origin)
                return None
        return AppError(
            "origin_not_allowed",
            403,
            "Web pages of this Origin may not call this server.",
            "If the page is yours, list its origin in a publishable key, or in the server's INNKEEPER_ALLOWED_ORIGINS.",
        )

    def allows_host(self, host: str) -> bool:
        """Whether the value of a Host header is one of ours. Ports must be numbers: no prefix trick gets through."""
        host = host.lower()
        if host == self._not_here:
            return False
        if host in self._hosts:
            return True
        name, colon, port = host.rpartition(":")
        return bool(colon) and port.isascii() and port.isdigit() and name in self._hosts

    def allows_origin(self, origin: str) -> bool:
        """Whether the value of an Origin header is one of ours: a listed one, or a page on a loopback name."""
        normal = _origin(origin)
        if normal in self._origins:
            return True
        scheme, separator, host = normal.partition("://")
        if not separator or scheme not in ("http", "https"):
            return False
        name, colon, port = host.rpartition(":")
        return host in LOOPBACK or (bool(colon) and port.isascii() and port.isdigit() and name in LOOPBACK)


async def _refuse(scope: Scope, receive: Receive, send: Send, error: AppError) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await send_problem(send, error)


def _origin(url: str) -> str:
    scheme, separator, rest = url.strip().lower().partition("://")
    return scheme + separator + rest.split("/", 1)[0]


def _remember(known: set[bytes], value: bytes) -> None:
    if len(known) < _REMEMBERED:
        known.add(value)
