"""Requests to issuers, whose addresses the operator gave: no redirects, no proxies, only so much in so long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2

from server.issuers.issuer import code_of, not_set_up, unreachable, wrong_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from authlib.integrations.httpx_client import AsyncOAuth2Client as AsyncOAuth2Client  # type: ignore[import-untyped]  # noqa: PLC0414  others name its type

SECONDS: Final = 10.0
"""Of one request, all in all."""
MOST_BYTES: Final = 512 * 1024
_HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "Innkeeper"}


class SaidNoError(Exception):
    """``code``: the error that a token endpoint answered with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Bounded(httpx2.AsyncBaseTransport):
    """Reads an answer whole, within the bounds, before anybody sees it. Packed ones are refused, since they may become
    anything."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport(verify=_trust())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._whole(request)
        except TimeoutError:
            raise httpx2.ReadTimeout("the answer took too long", request=request) from None

    async def _whole(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        body = bytearray()
        try:
            if "content-encoding" in response.headers:
                raise httpx2.DecodingError("the answer is packed", request=request)
            async for part in cast("httpx2.AsyncByteStream", response.stream):
                body += part
                if len(body) > MOST_BYTES:
                    raise httpx2.ReadError("the answer is too long", request=request)
        finally:
            await response.aclose()
        return httpx2.Response(
            response.status_code, headers=response.headers, content=bytes(body), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(**options: Any) -> AsyncOAuth2Client:
    """Authlib's client for one conversation with one issuer; ``async with`` it."""
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    return AsyncOAuth2Client(
        transport=Bounded(), headers=_HEADERS, trust_env=False, follow_redirects=False, timeout=SECONDS, **options
    )


@asynccontextmanager
async def talking(title: str, http: AsyncOAuth2Client) -> AsyncIterator[AsyncOAuth2Client]:
    """``http``, whose faults are ours in the words of :mod:`server.issuers.issuer`."""
    try:
        async with http:
            yield http
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise unreachable(title) from error


async def tokens(
    http: AsyncOAuth2Client, title: str, url: str, *, auth: httpx2.Auth | None = None, **asked: str
) -> dict[str, Any]:
    """What a token endpoint gives for a code or a refresh token. ``auth``: who we are, unless the client says it.
    Raises :class:`SaidNoError` for an error of RFC 6749, ``AppError`` for everything else."""
    from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]  # it brings no types

    try:
        async with talking(title, http):
            if "refresh_token" in asked:
                found: dict[str, Any] = await http.refresh_token(url, auth=auth, **asked)
            else:
                found = await http.fetch_token(url, grant_type="authorization_code", auth=auth, **asked)
    except AuthlibBaseError as error:
        raise SaidNoError(code_of(error.error)) from error
    except ValueError as error:
        raise wrong_answer(title, "it is no answer of a token endpoint") from error
    if not isinstance(found.get("access_token"), str):
        raise wrong_answer(title, "there is no token in it")
    return found


async def fetched(http: AsyncOAuth2Client, title: str, url: str, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON of a successful GET. Raises ``AppError``."""
    response = await http.request("GET", url, withhold_token=True, headers=headers)
    if response.status_code >= 500 or response.status_code == 429:
        raise unreachable(title)
    if response.status_code != 200:
        raise not_set_up(title, f"HTTP {response.status_code}")
    try:
        return response.json()
    except ValueError:
        raise wrong_answer(title, "it is no JSON") from None


@cache
def _trust() -> ssl.SSLContext:
    return httpx2.create_ssl_context()
