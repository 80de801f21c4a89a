"""GitHub, which speaks OAuth 2.0 and says who somebody is by its REST API; github.com or an Enterprise Server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from db.identities import Vouched
from server.issuers.http import SaidNoError, client, fetched, talking, tokens
from server.issuers.issuer import (
    Arrival,
    RefusedError,
    Token,
    Way,
    addresses,
    name_of,
    not_set_up,
    unreachable,
    wrong_answer,
)

if TYPE_CHECKING:
    from server.issuers.http import AsyncOAuth2Client

SCOPE: Final = "read:user user:email"
_API: Final = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_REFUSED: Final = frozenset({"bad_refresh_token", "invalid_grant"})
_USED: Final = frozenset({"bad_verification_code", "invalid_grant"})


@dataclass
class GitHub:
    issuer: str
    api: str
    client_id: str
    client_secret: str = field(repr=False)
    id: str = "github"
    title: str = "GitHub"

    async def leave(self, way: Way) -> str:
        async with self._client(way) as http:
            url, _ = http.create_authorization_url(
                f"{self.issuer}/login/oauth/authorize", state=way.state, code_verifier=way.verifier
            )
        return str(url)

    async def arrive(self, way: Way, answer: Mapping[str, str]) -> Arrival:
        token = await self._exchanged(way, answer.get("code", ""))
        async with talking(self.title, client()) as http:
            headers = {**_API, "authorization": f"Bearer {token['access_token']}"}
            person = await fetched(http, self.title, f"{self.api}/user", headers)
            mails = await fetched(http, self.title, f"{self.api}/user/emails?per_page=100", headers)
        subject = person.get("id") if isinstance(person, dict) else None
        if not isinstance(subject, int) or not isinstance(mails, list):
            raise wrong_answer(self.title, "it names nobody")
        vouched = Vouched(self.id, self.issuer, str(subject), _verified(mails), name_of(person))
        return Arrival(vouched, _kept(token))

    async def keeps(self) -> bool:
        return True

    async def recheck(self, subject: str, token: Token) -> Token:
        """Tokens of a GitHub App are refreshed; those of an OAuth App last, and tell whether they still do."""
        if token.kind == "refresh":
            return await self._refreshed(token)
        async with talking(self.title, client()) as http:
            headers = {**_API, "authorization": f"Bearer {token.value}"}
            answer = await http.request("GET", f"{self.api}/user", withhold_token=True, headers=headers)
        try:
            said = answer.json()
        except ValueError:
            said = None
        told = said if isinstance(said, dict) else {}
        suspended = answer.status_code == 403 and "suspended" in str(told.get("message", "")).lower()
        if answer.status_code == 401 or suspended or (answer.status_code == 200 and str(told.get("id")) != subject):
            raise RefusedError
        if answer.status_code != 200:
            raise unreachable(self.title)
        return token

    async def probe(self) -> None:
        """The API's root answers everybody."""
        async with talking(self.title, client()) as http:
            answer = await http.request("GET", f"{self.api}/meta", withhold_token=True, headers=_API)
        if answer.status_code >= 500:
            raise unreachable(self.title)

    @property
    def _tokens(self) -> str:
        return f"{self.issuer}/login/oauth/access_token"

    def _client(self, way: Way | None = None) -> AsyncOAuth2Client:
        return client(
            client_id=self.client_id,
            client_secret=self.client_secret,
            token_endpoint_auth_method="client_secret_post",  # noqa: S106  the name of a method
            code_challenge_method="S256",
            scope=SCOPE if way is not None else None,
            redirect_uri=way.callback if way is not None else None,
        )

    async def _exchanged(self, way: Way, code: str) -> dict[str, Any]:
        try:
            return await tokens(self._client(way), self.title, self._tokens, code=code, code_verifier=way.verifier)
        except SaidNoError as error:
            if error.code in _USED:
                raise wrong_answer(self.title, "it was used before or has expired") from error
            raise not_set_up(self.title, error.code) from error

    async def _refreshed(self, token: Token) -> Token:
        try:
            found = await tokens(self._client(), self.title, self._tokens, refresh_token=token.value)
        except SaidNoError as error:
            if error.code in _REFUSED:
                raise RefusedError from error
            raise not_set_up(self.title, error.code) from error
        return _kept(found)


def _kept(token: Mapping[str, Any]) -> Token:
    refresh = token.get("refresh_token")
    if isinstance(refresh, str) and refresh:
        return Token("refresh", refresh)
    return Token("access", token["access_token"])


def _verified(mails: list[Any]) -> tuple[str, ...]:
    """The primary address first; empty when that is not verified, since people are known by it."""
    found = [one for one in mails if isinstance(one, dict) and one.get("verified") is True]
    primary = [one for one in found if one.get("primary") is True]
    return addresses(one.get("email") for one in (*primary, *found)) if primary else ()
