"""The keys that issuers publish: found by discovery, kept for a while, asked for again when a token names another one.

Discovery is OpenID's (OpenID Connect Discovery 1.0, section 4) or OAuth's (RFC 8414, section 3), which put the same
words at different ends of an issuer's path. What a document says counts if it is that of the issuer itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from db.errors import AppError
from server.oauth.known_clients import life
from server.oauth.signatures import KeyList, keys_of
from tools.outside import Answered, Outside

MOST_ISSUERS: Final = 256
MOST_BYTES: Final = 256 * 1024
SECONDS: Final = 5.0
TYPES: Final = ("application/json", "application/jwk-set+json", "text/plain")
PAUSE_SECONDS: Final = 10.0
"""Between two times that an issuer is asked anew: after a fault, or for keys that it may have made meanwhile."""
OUTAGE_SECONDS: Final = 24 * 3600.0
"""How long keys are good for that their issuer could not be asked about again."""
_WELL_KNOWN: Final = "/.well-known/"


@dataclass
class _Known:
    """What is known of one issuer. Times are of the clock of this process."""

    keys: KeyList | None = None
    fetched: float = float("-inf")
    failed: float = float("-inf")
    renewed: float = float("-inf")
    good_for: float = 0.0
    fault: AppError | None = None
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    """One a process. Issuers are remembered with a bound; of one that is away the keys count for a day longer."""

    def __init__(self, outside: Outside, *, clock: Callable[[], float] = monotonic) -> None:
        self._outside = outside
        self._clock = clock
        self._known: dict[tuple[str, str | None], _Known] = {}

    async def of(self, issuer: str, key_set: str | None = None) -> KeyList:
        """``key_set``: the address of the keys, of an issuer that does not say it itself. Raises
        :class:`UnusableError` when they cannot be had."""
        known = self._remembered(issuer, key_set)
        async with known.fetching:
            if known.keys is None or self._clock() - known.fetched > known.good_for:
                await self._fetch(known, issuer, key_set)
            if known.keys is None:
                raise known.fault or unusable(issuer, "it publishes no keys")
            return known.keys

    async def again(self, issuer: str, key_set: str | None, than: KeyList) -> KeyList | None:
        """The keys after those that did not fit: asked for once, and not too often. ``None`` without newer ones."""
        known = self._remembered(issuer, key_set)
        async with known.fetching:
            now = self._clock()
            if known.keys is than and now - known.renewed >= PAUSE_SECONDS:
                known.renewed = now
                await self._fetch(known, issuer, key_set)
            return None if known.keys is than else known.keys

    def _remembered(self, issuer: str, key_set: str | None) -> _Known:
        found = self._known.pop((issuer, key_set), None) or _Known()
        if len(self._known) >= MOST_ISSUERS:
            del self._known[next(iter(self._known))]
        self._known[issuer, key_set] = found
        return found

    async def _fetch(self, known: _Known, issuer: str, key_set: str | None) -> None:
        now = self._clock()
        if now - known.failed < PAUSE_SECONDS:
            return
        try:
            address = key_set or await self._discovered(issuer)
            answer = await self._asked(address)
            keys = keys_of(_object(answer))
            if not keys:
                raise unusable(issuer, "its key set has no key that could have signed a token")
        except AppError as error:
            known.failed = now
            known.fault = error if isinstance(error, UnusableError) else unusable(issuer, "it cannot be asked for keys")
            if now - known.fetched > OUTAGE_SECONDS:
                known.keys = None
            return
        known.keys, known.fetched, known.fault = keys, now, None
        known.good_for = life(answer.headers).total_seconds()

    async def _discovered(self, issuer: str) -> str:
        """The address of the key set, as the issuer's own document has it."""
        for address in places(issuer):
            try:
                document = _object(await self._asked(address))
            except AppError:
                continue
            if document.get("issuer") != issuer:
                raise unusable(issuer, "its discovery document is that of another issuer")
            found = document.get("jwks_uri")
            if isinstance(found, str) and (found.startswith("https://") or may_be_plain(issuer)):
                return found
        raise unusable(issuer, "it has no discovery document that names its keys")

    async def _asked(self, url: str) -> Answered:
        answer = await self._outside.request("GET", url, accept=TYPES, max_bytes=MOST_BYTES, seconds=SECONDS)
        if answer.status != 200:
            raise AppError("remote_refused", 502, f"The other side answers with {answer.status}.", "Look there.")
        return answer


def places(issuer: str) -> list[str]:
    """Where an issuer may describe itself: its path comes first in OpenID's form, and last in that of RFC 8414."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")

    def at(path: str) -> str:
        return urlunsplit((parts.scheme, parts.netloc, path, "", ""))

    openid, oauth = f"{_WELL_KNOWN}openid-configuration", f"{_WELL_KNOWN}oauth-authorization-server"
    return list(dict.fromkeys((at(path + openid), at(oauth + path), at(openid + path))))


def may_be_plain(url: str) -> bool:
    """Whether an issuer may be asked over http: at an address, or by a name without a dot, of one's own network."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host


class UnusableError(AppError):
    """An issuer whose keys cannot be had, and so none of its tokens taken (RFC 8693, 2.2.2)."""


def unusable(issuer: str, why: str) -> UnusableError:
    return UnusableError(
        "invalid_request",
        400,
        f"The keys of the issuer {issuer[:200]} cannot be had: {why}.",
        "Try again later; if it stays so, ask whoever set the project's token sources up.",
        retryable=True,
    )


def _object(answer: Answered) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AppError("remote_refused", 502, "The other side answers with no JSON object.", "Look there.")
    return found
