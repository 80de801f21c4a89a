"""Any issuer of OpenID Connect: Google, and those of ``INNKEEPER_OIDC_PROVIDERS``.

The authorization code flow with PKCE, state and nonce (Core 1.0, 3.1; RFC 9700), the issuer of each answer checked
where it says that it names itself (RFC 9207), and a refresh token for later.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

import httpx2

from db.identities import Vouched
from server.issuers.discovery import Metadata, Published
from server.issuers.http import SaidNoError, client, fetched, talking, tokens
from server.issuers.id_token import claims_of
from server.issuers.issuer import (
    Arrival,
    RefusedError,
    Token,
    Way,
    addresses,
    name_of,
    not_set_up,
    wrong_answer,
)

if TYPE_CHECKING:
    from server.issuers.http import AsyncOAuth2Client

OFFLINE: Final = "offline_access"
REFUSED: Final = frozenset(
    {"invalid_grant", "invalid_token", "access_denied", "login_required", "consent_required", "interaction_required"}
)
"""Answers to a refresh that mean the account; others mean us, or the moment."""


@dataclass
class OpenIdIssuer:
    """``further``: parameters of the authorization request. ``domains``: the only ones whose addresses it may vouch
    for, if there are any; ``trust_email``: these count as verified unless it says that they are not."""

    id: str
    title: str
    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "email", "profile", OFFLINE)
    further: Mapping[str, str] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    trust_email: bool = False

    def __post_init__(self) -> None:
        self.published = Published(self.title, self.issuer)

    async def leave(self, way: Way) -> str:
        metadata = await self.published.metadata()
        asked = {"nonce": way.nonce, **self.further, **({"prompt": "consent"} if way.consent else {})}
        async with self._client(metadata, way) as http:
            url, _ = http.create_authorization_url(
                metadata.authorization_endpoint, state=way.state, code_verifier=way.verifier, **asked
            )
        return str(url)

    async def arrive(self, way: Way, answer: Mapping[str, str]) -> Arrival:
        metadata = await self.published.metadata()
        named = answer.get("iss")
        if named != self.issuer and (metadata.names_itself or named is not None):
            raise wrong_answer(self.title, "another issuer answered")
        token = await self._exchanged(metadata, way, answer.get("code", ""))
        claims = await self._claims(token, way.nonce)
        person = await self._described(metadata, token, claims)
        refresh = token.get("refresh_token")
        vouched = Vouched(self.id, self.issuer, claims["sub"], self._verified(person), name_of(person))
        return Arrival(vouched, Token("refresh", refresh) if isinstance(refresh, str) and refresh else None)

    async def keeps(self) -> bool:
        return bool(self.further) or OFFLINE in self._scopes(await self.published.metadata())

    async def recheck(self, subject: str, token: Token) -> Token:
        metadata = await self.published.metadata()
        try:
            found = await self._tokens(metadata, None, refresh_token=token.value)
        except SaidNoError as error:
            if error.code in REFUSED:
                raise RefusedError from error
            raise not_set_up(self.title, error.code) from error
        if "id_token" in found and (await self._claims(found, None))["sub"] != subject:
            raise RefusedError
        after = found.get("refresh_token")
        return Token("refresh", after if isinstance(after, str) and after else token.value)

    async def probe(self) -> None:
        await self.published.metadata()
        await self.published.keys()

    async def _tokens(self, metadata: Metadata, way: Way | None, **asked: str) -> dict[str, Any]:
        http, auth = self._client(metadata, way), None
        if self.client_secret is not None and _takes_basic(metadata):
            # Authlib leaves out that both are form-urlencoded first (RFC 6749 2.3.1).
            auth = httpx2.BasicAuth(quote_plus(self.client_id), quote_plus(self.client_secret))
        return await tokens(http, self.title, metadata.token_endpoint, auth=auth, **asked)

    def _client(self, metadata: Metadata, way: Way | None) -> AsyncOAuth2Client:
        return client(
            client_id=self.client_id,
            client_secret=self.client_secret,
            token_endpoint_auth_method="none" if self.client_secret is None else "client_secret_post",
            code_challenge_method="S256",
            scope=" ".join(self._scopes(metadata)) if way is not None else None,
            redirect_uri=way.callback if way is not None else None,
        )

    def _scopes(self, metadata: Metadata) -> tuple[str, ...]:
        """Some refuse what they do not know: offline access is asked for in other words there, or not to be had."""
        known = metadata.scopes
        return tuple(one for one in self.scopes if one != OFFLINE or known is None or OFFLINE in known)

    async def _exchanged(self, metadata: Metadata, way: Way, code: str) -> dict[str, Any]:
        try:
            return await self._tokens(metadata, way, code=code, code_verifier=way.verifier)
        except SaidNoError as error:
            if error.code == "invalid_grant":
                raise wrong_answer(self.title, "it was used before or has expired") from error
            raise not_set_up(self.title, error.code) from error

    async def _claims(self, token: Mapping[str, Any], nonce: str | None) -> dict[str, Any]:
        return await claims_of(
            self.title,
            self.published,
            token.get("id_token"),
            issuer=self.issuer,
            client_id=self.client_id,
            nonce=nonce,
            access_token=token["access_token"],
        )

    async def _described(
        self, metadata: Metadata, token: Mapping[str, Any], claims: dict[str, Any]
    ) -> Mapping[str, Any]:
        """The claims of who it is; of userinfo where the ID token does not speak of an address (Core 1.0, 5.3.2)."""
        if claims.keys() >= {"email", "email_verified"} or metadata.userinfo_endpoint is None:
            return claims
        async with talking(self.title, client()) as http:
            bearer = {"authorization": f"Bearer {token['access_token']}"}
            found = await fetched(http, self.title, metadata.userinfo_endpoint, bearer)
        if not isinstance(found, dict) or not hmac.compare_digest(
            str(found.get("sub")).encode(), claims["sub"].encode()
        ):
            raise wrong_answer(self.title, "it describes somebody else")
        return found if "email" in found else claims

    def _verified(self, person: Mapping[str, Any]) -> tuple[str, ...]:
        said = person.get("email_verified")
        if said is not True and said != "true" and not (said is None and self.trust_email):
            return ()
        found = addresses([person.get("email")])
        return tuple(one for one in found if not self.domains or one.rpartition("@")[2] in self.domains)


def _takes_basic(metadata: Metadata) -> bool:
    """Which is what there is where nothing is said (Discovery 1.0, 3)."""
    return "client_secret_basic" in metadata.token_auth or "client_secret_post" not in metadata.token_auth
