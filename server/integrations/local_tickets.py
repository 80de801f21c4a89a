"""Signed addresses of the local store: what one allows is written in its query, and nothing else is allowed.

An address is ``{base}/files/{key}?{claims}&signature={HMAC-SHA256}``. The signature covers method, key and every claim
(size, type, checksum, part, expiry), so changing, adding, leaving out or moving any of them to another project's key
makes it void. Keys come from the house's root secret by a label; those of a former root stay good for checking, so a
rotation voids no ticket before its time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Final
from urllib.parse import parse_qsl, urlencode

from db.errors import AppError

LABEL: Final = "files/tickets"
PATH: Final = "/files/"
LONGEST_QUERY: Final = 2048
SIGNATURE: Final = "signature"
EXPIRES: Final = "expires"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a checked address allows: ``given`` has its claims as text, without expiry and signature."""

    key: str
    given: Mapping[str, str]


class TicketSigner:
    """``keys``: the one that signs, then those that are only checked with; or what gives them anew at each use."""

    def __init__(self, keys: Sequence[bytes] | Callable[[], Sequence[bytes]]) -> None:
        self._keys = keys if callable(keys) else lambda: keys

    def sign(self, method: str, key: str, claims: Mapping[str, str], expires_at: int) -> str:
        """Path and query of an address. ``expires_at``: in seconds of the Unix epoch."""
        query = urlencode(sorted({**claims, EXPIRES: str(expires_at)}.items()))
        return f"{PATH}{key}?{query}&{SIGNATURE}={_signature(self._keys()[0], method, key, query)}"

    def check(self, method: str, key: str, query: str) -> Claims:
        """What the address allows. Raises ``AppError`` 403 ``ticket_refused`` or ``ticket_expired``."""
        claims = _parsed(query)
        signature = claims.pop(SIGNATURE, "")
        signed = urlencode(sorted(claims.items()))
        if not any(hmac.compare_digest(signature, _signature(one, method, key, signed)) for one in self._keys()):
            raise refused("The signature of this address does not fit what is asked for.")
        if int(claims.pop(EXPIRES)) <= time():
            raise AppError("ticket_expired", 403, "This address had its time.", "Ask for a new ticket.")
        return Claims(key, claims)


def refused(message: str) -> AppError:
    return AppError(
        "ticket_refused",
        403,
        message,
        "Send the request exactly as the ticket says: its method, its whole url, its headers; or ask for a new ticket.",
    )


def _signature(key: bytes, method: str, path: str, query: str) -> str:
    return hmac.digest(key, f"{method}\n{path}\n{query}".encode(), "sha256").hex()


def _parsed(query: str) -> dict[str, str]:
    """The claims of a query in which each has one value; what is anything else is signed by nobody."""
    if len(query) > LONGEST_QUERY:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError:
        return {}
    found = dict(pairs)
    return found if len(found) == len(pairs) and all(map(str.isascii, found.values())) else {}
