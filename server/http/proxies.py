"""Who a request comes from when it went through proxies: what they say counts only where the operator trusts them.

Without the setting nothing of ``X-Forwarded-For`` is believed, from nobody. Scheme and host never are: the public
address is a setting.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

Network = IPv4Network | IPv6Network


class TrustedProxies:
    """ASGI middleware, outside of everything that looks at ``scope["client"]``."""

    def __init__(self, app: ASGIApp, trusted: tuple[Network, ...]) -> None:
        self.app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            scope["client"] = (self._origin(scope), 0)
        await self.app(scope, receive, send)

    def _origin(self, scope: Scope) -> str:
        """The first address, from the nearest to the farthest, that is no trusted proxy."""
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop.strip() for hop in ",".join(values).split(",") if hop.strip()]
        nearest: str = scope["client"][0]
        while hops and self._trusts(nearest) and _is_address(hops[-1]):
            nearest = hops.pop()
        return nearest

    def _trusts(self, address: str) -> bool:
        if not _is_address(address):
            return False
        found = ip_address(address)
        return any(found in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
