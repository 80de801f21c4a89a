"""The one HTTP client for every URL that a tenant gives (decision 16, docs/decisions/0010-guarded-client.md).

What it does not do: proxies and credentials from the environment, cookies, redirects that carry credentials elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import httpcore2
import httpx2

from server.integrations import guarded_url
from server.integrations.addresses import Addresses
from server.integrations.guarded_answer import (
    ACCEPT_ENCODING,
    ANYTHING,
    Content,
    Limits,
    as_httpx2,
    bad_answer,
    content_type,
    too_slow,
    unreachable,
)
from server.integrations.guarded_network import GuardedNetwork, Resolve, system_resolve
from tools.outside import Answered

if TYPE_CHECKING:
    import ssl

MODELS: Final = Limits(
    frozenset({"application/json", "text/event-stream", "application/x-ndjson", "text/plain"}),
    max_bytes=64 << 20,
    total_seconds=660.0,
    redirects=0,
    max_line=16 << 20,
)
"""For a model's endpoint: as long as a run may last, and more than any answer of a model. A line of a stream is held as
a whole; an answer in one piece has only one."""
ELSEWHERE: Final = frozenset({"accept", "accept-encoding", "accept-language", "host", "user-agent"})
"""Headers that go along when a redirect leads to another origin. No others: keys travel under many names."""
_LIMITS: Final = "innkeeper.limits"
_DEADLINE: Final = "innkeeper.deadline"


class Outgoing:
    """Requests of this process to addresses of tenants. ``resolve`` and ``trust`` are for tests."""

    def __init__(
        self,
        addresses: Addresses,
        *,
        resolve: Resolve = system_resolve,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._addresses = addresses
        self._resolve = resolve
        self._trust = trust
        self._client: GuardedClient | None = None

    def check(self, url: str) -> None:
        """Refuse a URL that cannot be one of a tenant whatever its host resolves to. Raises ``AppError``."""
        guarded_url.check(guarded_url.parsed(url), self._addresses)

    def client(self, limits: Limits, *, connections: int = 100) -> GuardedClient:
        """A client with a pool of its own, for whoever made it to close.

        What the guard refuses is raised as ``AppError``; what fails on the way as what httpx2 raises for it.
        """
        if self._trust is None:
            self._trust = httpx2.create_ssl_context()
        network = GuardedNetwork(self._addresses, self._resolve)
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=self._trust,
            max_connections=connections,
            max_keepalive_connections=connections // 10,
            keepalive_expiry=30.0,
            network_backend=network,
        )
        return GuardedClient(GuardedTransport(pool, self._addresses), limits)

    def for_models(self) -> GuardedClient:
        """A client for the endpoints of tenants' models."""
        return self.client(MODELS, connections=1000)

    async def request(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int = 1 << 20,
        seconds: float = 15.0,
        redirects: int = 3,
    ) -> Answered:
        """The whole answer, whatever its status. ``accept``: the content types a successful one may have, ``None`` for
        any. Only GET and HEAD follow redirects. Every fault is an ``AppError``.
        """
        self.check(url)
        limits = Limits(ANYTHING if accept is None else frozenset(accept), max_bytes, seconds, redirects=redirects)
        if self._client is None:
            self._client = self.client(limits)
        sent = {"accept": ", ".join(sorted(accept or ("*/*",))), **(headers or {})}
        try:
            response = await self._client.request(
                method, url, headers=sent, content=body, timeout=timeouts(limits), extensions={_LIMITS: limits}
            )
        except httpx2.TimeoutException as error:
            raise too_slow() from error
        except httpx2.NetworkError as error:
            raise unreachable() from error
        except httpx2.HTTPError as error:
            raise bad_answer() from error
        kind = content_type(response.headers)
        return Answered(str(response.url), response.status_code, kind, response.headers, response.content)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()


class GuardedClient(httpx2.AsyncClient):
    """An httpx2 client in all but where it goes, how much it takes, and how it follows redirects: as often as its
    limits say, whatever it is asked."""

    def __init__(self, transport: GuardedTransport, limits: Limits) -> None:
        super().__init__(
            transport=transport,
            timeout=timeouts(limits),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"accept-encoding": ACCEPT_ENCODING},
            trust_env=False,
            follow_redirects=False,
        )
        self._limits = limits

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        limits: Limits = request.extensions.setdefault(_LIMITS, self._limits)
        request.extensions.setdefault(_DEADLINE, asyncio.get_running_loop().time() + limits.total_seconds)
        options["follow_redirects"] = False
        for _hop in range(limits.redirects):
            response = await super().send(request, stream=True, **options)
            following = _following(request, response)
            if following is None:
                return await _given(response, stream=stream)
            await response.aclose()
            if _origin(following.url) != _origin(request.url):
                options["auth"] = None
            request = following
        response = await super().send(request, stream=True, **options)
        if limits.redirects and _following(request, response) is not None:
            await response.aclose()
            raise bad_answer("The other side redirects too often.")
        return await _given(response, stream=stream)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """One request over the guarded network, within the limits it carries."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool, addresses: Addresses) -> None:
        self._pool = pool
        self._addresses = addresses

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        guarded_url.check(url, self._addresses)
        limits: Limits = request.extensions[_LIMITS]
        deadline: float = request.extensions[_DEADLINE]
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            with as_httpx2():
                async with asyncio.timeout_at(deadline):
                    answered = await self._pool.handle_async_request(asked)
        except TimeoutError:
            raise too_slow() from None
        headers = httpx2.Headers(answered.headers)
        try:
            limits.check(answered.status, headers)
            content = Content(answered, headers.pop("content-encoding", ""), limits, deadline)
        except BaseException:
            await answered.aclose()
            raise
        return httpx2.Response(answered.status, headers=headers, stream=content, extensions=answered.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


def timeouts(limits: Limits) -> httpx2.Timeout:
    return httpx2.Timeout(limits.total_seconds, connect=limits.connect_seconds, pool=limits.connect_seconds)


def _following(request: httpx2.Request, response: httpx2.Response) -> httpx2.Request | None:
    """The request that a redirect asks for; ``None`` when this is the answer. Only what changes nothing is repeated
    elsewhere, and never in the clear what was asked over TLS."""
    following = response.next_request
    if not response.has_redirect_location or request.method not in ("GET", "HEAD"):
        return None
    if following is None or (request.url.scheme == "https" and following.url.scheme != "https"):
        raise bad_answer("The other side redirects to where nobody follows.")
    if _origin(following.url) != _origin(request.url):
        following.headers = httpx2.Headers(
            [(name, value) for name, value in following.headers.multi_items() if name.lower() in ELSEWHERE]
        )
    following.extensions = dict(request.extensions)
    return following


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


async def _given(response: httpx2.Response, *, stream: bool) -> httpx2.Response:
    if not stream:
        try:
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
    return response
