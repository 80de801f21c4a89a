"""What a URL of a tenant must look like, and what goes wrong with it: decided on its text, before anything is resolved.

The parser is the client's own (httpx2), so that what is checked is what is connected to.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from db.errors import AppError
from server.integrations.addresses import Address, Addresses

if TYPE_CHECKING:
    import httpx2

LONGEST_URL: Final = 4096
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMERIC: Final = re.compile(r"([0-9]+|0x[0-9a-f]*)\.?")
_NOT_HTTP: Final = frozenset(
    {1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
     111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
     540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
     6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)  # fmt: skip
"""Ports of other protocols, which a request could be made to speak by accident (Fetch standard, "bad port")."""


def parsed(url: str) -> httpx2.URL:
    """Raises ``AppError`` ``url_not_allowed`` for what is no URL."""
    import httpx2

    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        raise not_a_web_address() from None


def check(url: httpx2.URL, addresses: Addresses) -> None:
    """Refuse what no resolver has to be asked about. Raises ``AppError`` ``url_not_allowed``.

    An address has to be written as one (RFC 3986, 3.2.2): its octal, hexadecimal, decimal and shortened forms, which
    some resolvers read and others do not, are no names either, as in the URL standard, "ends in a number".
    """
    host = url.host.lower()
    if url.scheme not in ("http", "https") or url.userinfo or len(str(url)) > LONGEST_URL:
        raise not_a_web_address()
    if url.port is not None and (url.port in _NOT_HTTP or not 0 < url.port < 65536):
        raise not_a_web_address()
    address = literal(host)
    if address is not None:
        if not addresses.permits(address):
            raise not_public()
        return
    if not _NAME.fullmatch(host):
        raise not_a_web_address()
    if _NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise not_public()
    # Always this very machine (RFC 6761, 6.3), whatever a resolver says.
    if host.removesuffix(".").rpartition(".")[2] == "localhost" and not addresses.permits(ip_address("127.0.0.1")):
        raise not_public()


def literal(host: str) -> Address | None:
    """The address that a host of a URL spells, ``None`` for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def not_a_web_address() -> AppError:
    return AppError(
        "url_not_allowed",
        400,
        "This is not a web address that Innkeeper goes to.",
        "Give an http or https URL with a host name, without a user name, on a usual port.",
    )


def not_public() -> AppError:
    """The same for a name that does not resolve and one that leads inside: nobody learns which names exist there."""
    return AppError(
        "url_not_allowed",
        400,
        "The host of this URL has no public address.",
        "Give a URL whose host is reachable from the internet. Whoever runs this server can allow addresses of its own "
        "network with INNKEEPER_ALLOW_PRIVATE_URLS.",
    )
