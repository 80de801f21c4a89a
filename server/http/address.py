"""Where this house is, to those who ask: one setting makes the issuer, the resource, the callbacks and all links."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import Scope

from server.http.fields import fields_of

MCP_PATH = "/mcp"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(url: str) -> bool:
    """Whether ``url`` leads to the machine it is used on."""
    return urlsplit(url).hostname in LOOPBACK


class PublicAddress:
    """The public URL. On a laptop, where it is missing or a loopback one, a caller is told the loopback address it
    used: ``localhost``, ``127.0.0.1`` and a forwarded port are the same house, and clients compare what they are told
    with what they typed. The Host allow-list has found that address to be ours.
    """

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url.rstrip("/") if public_url else None
        self._local = self._public_url is None or is_loopback(self._public_url)

    @property
    def secure(self) -> bool:
        """Whether people reach it over https alone."""
        return (self._public_url or "").startswith("https://")

    def base(self, scope: Scope) -> str:
        """Scheme and host, without a slash at the end: the issuer."""
        if self._local:
            host = fields_of(scope).get(b"host", b"localhost").decode("latin-1")
            used = f"{scope.get('scheme', 'http')}://{host}"
            if self._public_url is None or is_loopback(used):
                return used
        return str(self._public_url)

    def resource(self, scope: Scope) -> str:
        """The resource identifier (RFC 8707, RFC 9728): exactly what a token's audience must be."""
        return self.base(scope) + MCP_PATH

    def accepts(self, audience: str) -> bool:
        """Whether a token for ``audience`` is meant for this house."""
        if self._local and audience.endswith(MCP_PATH) and is_loopback(audience):
            return True
        return self._public_url is None or audience == self._public_url + MCP_PATH
