"""What an issuer publishes of itself: its metadata (OpenID Connect Discovery 1.0) and the keys it signs with.

Both are remembered for an hour. A token under a key that nobody knows yet has the keys fetched again: it comes from the
issuer's own token endpoint, so that nobody else can ask for that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from db.errors import AppError
from server.issuers.http import client, fetched, talking
from server.issuers.issuer import wrong_answer
from server.limits.allowance import Clock
from server.settings.providers import LOOPBACK

REMEMBERED: Final = 3600.0
AGAIN: Final = 60.0
"""Before an issuer that was away is asked for its metadata again."""
SIGNED_WITH: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Algorithms of keys that only the issuer has; never ``none``, and no secret that we have too."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """``names_itself``: the answer of its authorization endpoint says who gives it (RFC 9207)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    algorithms: tuple[str, ...]
    token_auth: tuple[str, ...]
    scopes: frozenset[str] | None
    names_itself: bool


class Published:
    def __init__(self, title: str, issuer: str, *, clock: Clock = monotonic) -> None:
        self._title = title
        self._issuer = issuer
        self._clock = clock
        self._metadata: Metadata | None = None
        self._keys: dict[str, Any] = {}
        self._metadata_until = self._keys_until = float("-inf")
        self._asking = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """Raises ``AppError``; while the issuer is away, what it said before still counts."""
        async with self._asking:
            if self._clock() >= self._metadata_until:
                try:
                    self._metadata = await self._read()
                except AppError as error:
                    if self._metadata is None or not error.retryable:
                        raise
                    self._metadata_until = self._clock() + AGAIN
                else:
                    self._metadata_until = self._clock() + REMEMBERED
            if self._metadata is None:
                raise RuntimeError("metadata that was read is there")
            return self._metadata

    async def keys(self, *, anew: bool = False) -> dict[str, Any]:
        """The JSON Web Key Set. ``anew``: a key was missing in it."""
        metadata = await self.metadata()
        async with self._asking:
            now = self._clock()
            if now >= self._keys_until or anew:
                async with talking(self._title, client()) as http:
                    found = await fetched(http, self._title, metadata.jwks_uri)
                if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
                    raise wrong_answer(self._title, "its keys are no key set")
                self._keys, self._keys_until = found, now + REMEMBERED
            return self._keys

    async def _read(self) -> Metadata:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        async with talking(self._title, client()) as http:
            found = await fetched(http, self._title, url)
        if not isinstance(found, dict) or found.get("issuer") != self._issuer:
            raise wrong_answer(self._title, "its metadata is of another issuer than the settings name")
        required = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if not all(_is_secure(found.get(name)) for name in required):
            raise wrong_answer(self._title, "its metadata lacks an https endpoint")
        userinfo = found.get("userinfo_endpoint")
        told = _texts(found.get("id_token_signing_alg_values_supported")) or ("RS256",)
        scopes = _texts(found.get("scopes_supported"))
        return Metadata(
            authorization_endpoint=found["authorization_endpoint"],
            token_endpoint=found["token_endpoint"],
            jwks_uri=found["jwks_uri"],
            userinfo_endpoint=str(userinfo) if _is_secure(userinfo) else None,
            algorithms=tuple(one for one in told if one in SIGNED_WITH),
            token_auth=_texts(found.get("token_endpoint_auth_methods_supported")) or ("client_secret_basic",),
            scopes=frozenset(scopes) if scopes else None,
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        )


def _is_secure(url: object) -> bool:
    if not isinstance(url, str):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
