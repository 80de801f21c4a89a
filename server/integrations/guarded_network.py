"""Connections to hosts that a tenant named: the name is resolved once, and only what was checked is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import httpcore2

from server.integrations.addresses import Address, Addresses
from server.integrations.guarded_url import literal, not_public

MOST_TRIED: Final = 4
"""Addresses of one host that are tried, one after the other."""
LEAST_SECONDS: Final = 1.0

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host name, in the order in which to try them. Raises ``OSError`` when there are none."""


async def system_resolve(host: str, port: int) -> list[str]:
    """As the machine is set up to (RFC 6724 gives the order)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Between the connection pool and the sockets, where no spelling of a URL and no second answer of a resolver can
    lead around it. TLS goes on checking the name.

    A host is refused when any of its addresses is: one that is public and private at once is meant to deceive, or
    belongs to a network whose insides are nobody's business. So the outcome does not depend on the order of answers.
    """

    def __init__(self, addresses: Addresses, resolve: Resolve = system_resolve) -> None:
        self._addresses = addresses
        self._resolve = resolve
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises ``AppError`` ``url_not_allowed``, or what any connection may fail with."""
        try:
            async with asyncio.timeout(timeout):
                found = await self._checked(host, port)
                return await self._first(found, port, timeout, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("connecting took too long") from error

    async def connect_unix_socket(self, *_args: Any, **_options: Any) -> httpcore2.AsyncNetworkStream:
        raise not_public()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> list[Address]:
        address = literal(host)
        try:
            answers = [host] if address is not None else await self._resolve(host, port)
            found = [ip_address(answer) for answer in answers]
        except (OSError, ValueError):  # ValueError: what a name cannot be spelled as, or an answer that is no address
            raise not_public() from None
        if not found or not all(self._addresses.permits(one) for one in found):
            raise not_public()
        return list(dict.fromkeys(found))[:MOST_TRIED]

    async def _first(
        self,
        found: list[Address],
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore2.AsyncNetworkStream:
        """The first that answers. Each but the last gets its share of the time, so that a dead one spoils nothing."""
        share = None if timeout is None else max(LEAST_SECONDS, timeout / len(found))
        for address in found[:-1]:
            try:
                return await self._sockets.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._sockets.connect_tcp(str(found[-1]), port, timeout, local_address, socket_options)
