"""Token sources as people describe them, checked before a project trusts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import UUID

from db import end_users
from db.errors import AppError
from db.ids import uuid7
from db.token_sources import KINDS, SEALED, Kind, TokenSource
from server.oauth import signatures
from server.oauth.issuer_keys import IssuerKeys, may_be_plain
from server.vault import Vault
from tools.outside import Outside

FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "issuer": ("issuer", "audience", "url"),
    "hs256": ("secret", "issuer", "audience"),
    "public_key": ("public_key", "issuer", "audience"),
    "userinfo": ("url",),
    "none": (),
}
"""What each kind is described by; a name of a field is its column, but for the secret."""
NEEDED: Final[Mapping[Kind, tuple[str, ...]]] = {
    "issuer": ("issuer", "audience"),
    "hs256": ("secret",),
    "public_key": ("public_key",),
    "userinfo": ("url",),
    "none": (),
}
LONGEST: Final = {"public_key": 10_000, "secret": 512, "url": 500}
LONGEST_OTHERS: Final = 255


@dataclass(frozen=True, slots=True)
class Described:
    """``source``, or what is wrong: ``faults`` by field; ``may_insist``: it may be saved all the same."""

    source: TokenSource | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    may_insist: bool = False


class TokenSources:
    """One a process."""

    def __init__(self, vault: Vault, outside: Outside, keys: IssuerKeys) -> None:
        self._vault = vault
        self._outside = outside
        self._keys = keys
        self._rules: dict[str, Callable[[Kind, str], str | None]] = {
            "issuer": self._issuer,
            "url": self._url,
            "public_key": _public_key,
            "secret": _secret,
        }

    async def described(self, project_id: UUID, kind: str, typed: Mapping[str, str], *, insist: bool) -> Described:
        """``typed``: fields as they were typed. ``insist``: although an issuer's keys cannot be had now."""
        if kind not in KINDS:
            return Described(faults={"kind": "Choose where the tokens come from."})
        chosen = cast(Kind, kind)
        given = {name: typed.get(name, "").strip() for name in FIELDS[chosen]}
        faults = {name: fault for name, text in given.items() if (fault := self._fault(chosen, name, text)) is not None}
        if faults:
            return Described(faults=faults)
        if chosen == "issuer" and not insist:
            try:
                await self._keys.of(given["issuer"], given["url"] or None)
            except AppError as error:
                return Described(faults={"issuer": error.message}, may_insist=True)
        source_id, secret = uuid7(), given.pop("secret", None)
        sealed = None if secret is None else self._vault.seal(project_id, SEALED, secret, str(source_id))
        columns = {name: text or None for name, text in given.items()}
        return Described(TokenSource(source_id, chosen, sealed=sealed, **columns))

    def _fault(self, kind: Kind, name: str, text: str) -> str | None:
        if not text:
            return "This is needed." if name in NEEDED[kind] else None
        longest = LONGEST.get(name, LONGEST_OTHERS)
        if len(text) > longest or not (text.isprintable() or name == "public_key"):
            return f"This has at most {longest} characters, on one line."
        rule = self._rules.get(name)
        return None if rule is None else rule(kind, text)

    def _issuer(self, kind: Kind, text: str) -> str | None:
        if text.startswith(end_users.RESERVED):
            return "This is no name of an issuer."
        return self._url(kind, text) if kind == "issuer" else None

    def _url(self, _kind: Kind, text: str) -> str | None:
        try:
            self._outside.check(text)
        except AppError as error:
            return error.message
        if {"?", "#", "@", " "} & set(text):
            return "This is no address without a query."
        return None if may_be_plain(text) or text.startswith("https://") else "This must begin with https://."


def _public_key(_kind: Kind, text: str) -> str | None:
    try:
        signatures.pinned(text)
    except AppError as error:
        return f"{error.message} {error.hint}"
    return None


def _secret(_kind: Kind, text: str) -> str | None:
    if text.startswith("-----BEGIN"):
        return "This is a key of another kind, not a shared secret."
    error = signatures.too_short(text)
    return None if error is None else f"{error.message} {error.hint}"
