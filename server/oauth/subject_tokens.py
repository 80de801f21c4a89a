"""Whom a token of somebody else's is about (RFC 8693, 2.1: ``subject_token``), on the word of a project's sources.

Which source speaks is decided by what the token says of itself, before anything is believed: one whose ``iss`` is that
of a source is that source's alone, and stands or falls with it. Every refusal is ``invalid_request``, as RFC 8693 2.2.2
has it, and says what was wrong with the token, never what a right one would be.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from time import time
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db import end_users
from db.errors import AppError
from db.token_sources import SEALED, TokenSource
from server.oauth import signatures
from server.oauth.issuer_keys import IssuerKeys
from server.vault import Vault
from tools.outside import Outside

if TYPE_CHECKING:
    from joserfc.jwk import Key

LONGEST: Final = 16 * 1024
SKEW_SECONDS: Final = 60.0
"""How far ahead a clock may be that says when a token begins; none is granted at its end."""
UNTOLD_LIFE: Final = timedelta(minutes=5)
"""Of ours for a token that does not say when it ends: whoever told us of it is asked again then."""
FARTHEST: Final = timedelta(days=3650)
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "id_token+jwt", "application/jwt"})
"""What the header of a token may say that it is (RFC 8725, 3.11): not a logout token, and nobody's proof of a key."""
USERINFO_BYTES: Final = 64 * 1024
USERINFO_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Subject:
    """An end user as ``issuer`` knows them, at most until ``until``, and for ``life``."""

    issuer: str
    name: str
    until: datetime
    life: timedelta = end_users.LIFE


@dataclass(frozen=True, slots=True)
class Seen:
    """A JWT before anything of it is believed."""

    text: str
    algorithm: str
    kid: object
    claims: dict[str, Any]

    @property
    def issuer(self) -> object:
        return self.claims.get("iss")


class SubjectTokens:
    """One a process."""

    def __init__(self, vault: Vault, outside: Outside, keys: IssuerKeys, *, clock: Callable[[], float] = time) -> None:
        self._vault = vault
        self._outside = outside
        self._keys = keys
        self._clock = clock

    async def subject(self, project_id: UUID, sources: Sequence[TokenSource], token: str) -> Subject:
        """Raises ``AppError`` unless one of the sources answers for the token."""
        if len(token) > LONGEST:
            raise refused(f"it has more than {LONGEST} characters")
        seen = read(token)
        if seen is None:
            return await self._told(sources, token, None)
        named = [source for source in sources if source.issuer is not None and source.issuer == seen.issuer]
        if named:
            return await self._signed(project_id, named, seen)
        unnamed = [source for source in sources if source.issuer is None and source.kind in _kinds(seen.algorithm)]
        told = not unnamed or any(source.kind in ("userinfo", "none") for source in sources)
        try:
            return await self._signed(project_id, unnamed, seen)
        except AppError:
            if not told:
                raise
        return await self._told(sources, token, seen)

    async def _signed(self, project_id: UUID, sources: Sequence[TokenSource], seen: Seen) -> Subject:
        """By the first of the sources under whose key the signature is good, and whose audience is meant."""
        fault: AppError | None = None
        for source in sources:
            if source.kind not in _kinds(seen.algorithm):
                fault = fault or refused("it is not signed with an algorithm that its source may use")
            elif not await self._is_signed(project_id, source, seen):
                fault = fault or refused("its signature is not good")
            else:
                try:
                    return self._checked(source, seen)
                except AppError as error:
                    fault = error
        raise fault or refused("nobody here answers for it")

    async def _is_signed(self, project_id: UUID, source: TokenSource, seen: Seen) -> bool:
        if source.kind == "hs256" and source.sealed is not None:
            secret = self._vault.open(project_id, SEALED, source.sealed, str(source.id))
            return signatures.signed_under(seen.text, signatures.secret_key(secret), signatures.SECRET)
        if source.kind == "public_key" and source.public_key is not None:
            keys = signatures.fitting((signatures.pinned(source.public_key),), seen.algorithm, None)
            return _under_any(keys, seen)
        issuer = source.issuer or ""
        keys = await self._keys.of(issuer, source.url)
        if _under_any(signatures.fitting(keys, seen.algorithm, seen.kid), seen):
            return True
        newer = await self._keys.again(issuer, source.url, keys)
        return newer is not None and _under_any(signatures.fitting(newer, seen.algorithm, seen.kid), seen)

    def _checked(self, source: TokenSource, seen: Seen) -> Subject:
        """What a good signature stands under."""
        return Subject(
            _namespace(source, seen.issuer), _name(seen.claims), _times(seen.claims, source.audience, self._clock())
        )

    async def _told(self, sources: Sequence[TokenSource], token: str, seen: Seen | None) -> Subject:
        """By who has issued the token, asked about it; by nobody, where a project wants no more than that."""
        fault: AppError | None = None
        for source in sources:
            if source.kind == "userinfo" and source.url is not None:
                try:
                    return await self._asked(source.url, token, seen)
                except AppError as error:
                    fault = error
        if seen is not None and any(source.kind == "none" for source in sources):
            return Subject(end_users.UNVERIFIED, _name(seen.claims), _times(seen.claims, None, self._clock()))
        if fault is not None:
            raise fault
        raise refused("this project has no source of tokens that answers for it")

    async def _asked(self, url: str, token: str, seen: Seen | None) -> Subject:
        """OpenID Connect Core 1.0, 5.3. What a token says of its own end is taken for an end, though it is not read. So
        is what the endpoint says beside the claims: many tell what introspection does (RFC 7662, 2.2)."""
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise refused("it is no access token")
        try:
            answer = await self._outside.request(
                "GET",
                url,
                accept=("application/json",),
                headers={"authorization": f"Bearer {token}"},
                max_bytes=USERINFO_BYTES,
                seconds=USERINFO_SECONDS,
                redirects=0,
            )
        except AppError as error:
            raise refused("the userinfo endpoint that would know of it cannot be asked", again=True) from error
        if answer.status != 200:
            raise refused(f"the userinfo endpoint answers with {answer.status}", again=answer.status >= 500)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise refused("the userinfo endpoint answers with no JSON object")
        if found.get("active", True) is not True:
            raise refused("the userinfo endpoint says that it is not active")
        now = self._clock()
        claims = dict(seen.claims) if seen is not None else {}
        claims.setdefault("exp", now + UNTOLD_LIFE.total_seconds())
        until = min([_times(claims, None, now), *(_times({"exp": end}, None, now) for end in _ends(found, now))])
        return Subject(f"{end_users.RESERVED}userinfo {url}", _name(found), until, UNTOLD_LIFE)


def read(token: str) -> Seen | None:
    """The JWT that ``token`` is, unverified; ``None`` for what has no such form. Raises ``AppError`` for one that
    nobody here would take, whoever signed it."""
    parts = token.split(".")
    if len(parts) == 5:
        raise refused("it is encrypted")
    if len(parts) != 3:
        return None
    header, claims = _part(parts[0]), _part(parts[1])
    if header is None or claims is None:
        return None
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        raise refused("it is not signed")
    if "cty" in header or "enc" in header:
        raise refused("it is a token within a token")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise refused("it is a token of another kind")
    return Seen(token, algorithm, header.get("kid"), claims)


def refused(why: str, *, again: bool = False) -> AppError:
    hint = "Try again later." if again else "Sign the user in again, and send the token that comes of it."
    return AppError("invalid_request", 400, f"The subject_token is refused: {why}.", hint, retryable=again)


def _kinds(algorithm: str) -> frozenset[str]:
    """Which kinds of sources sign with an algorithm."""
    if algorithm == signatures.SECRET:
        return frozenset({"hs256"})
    return frozenset({"issuer", "public_key"}) if algorithm in signatures.ASYMMETRIC else frozenset()


def _under_any(keys: Sequence[Key], seen: Seen) -> bool:
    return any(signatures.signed_under(seen.text, key, seen.algorithm) for key in keys)


def _part(encoded: str) -> dict[str, Any] | None:
    try:
        found = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _namespace(source: TokenSource, issuer: object) -> str:
    """Who knows the user by that name. What the project's own server signs without an issuer's name is its own."""
    if issuer is None:
        return end_users.OWN if source.kind == "hs256" else f"{end_users.RESERVED}{source.kind}"
    if not isinstance(issuer, str) or not end_users.is_name(issuer) or issuer.startswith(end_users.RESERVED):
        raise refused("its iss is no issuer")
    return issuer


def _name(claims: dict[str, Any]) -> str:
    name = claims.get("sub")
    if name is None:
        raise refused("it has no sub")
    if not isinstance(name, str) or not end_users.is_name(name):
        raise refused(f"its sub is not 1 to {end_users.LONGEST_NAME} printable characters")
    return name


def _times(claims: dict[str, Any], audience: str | None, now: float) -> datetime:
    """Until when it holds. Raises ``AppError`` for one that is not for us, not yet, or no more."""
    said = claims.get("aud")
    listed = [said] if isinstance(said, str) else said
    if audience is not None and (not isinstance(listed, list) or audience not in listed):
        raise refused("its aud is another one")
    ends = claims.get("exp")
    if ends is None:
        raise refused("it has no exp, and a token that never ends is taken from nobody")
    if not _is_time(ends):
        raise refused("its exp is no time")
    if ends <= now:
        raise refused("it has expired")
    for name in ("nbf", "iat"):
        begins = claims.get(name)
        if begins is not None and (not _is_time(begins) or begins > now + SKEW_SECONDS):
            raise refused(f"its {name} is in the future, or no time")
    return datetime.fromtimestamp(min(ends, now + FARTHEST.total_seconds()), UTC)


def _ends(found: dict[str, Any], now: float) -> Iterator[float]:
    """When the token that was asked about ends: at ``exp``, in ``expires_in`` seconds. Google writes them as text."""
    for name, since in (("exp", 0.0), ("expires_in", now)):
        said = found.get(name)
        if isinstance(said, str) and said.isascii() and said.isdigit():
            said = int(said[:12])
        if said is not None and _is_time(said):
            yield since + said


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or isfinite(value)
