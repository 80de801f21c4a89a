"""From a bearer token to a principal, on the hot path of every request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, time
from typing import Final, TypeVar
from uuid import UUID

from db.database import Database
from db.principal import Principal
from db.tokens import PUBLISHABLE_KEY, fingerprint, is_bearer, is_wellformed, token_hash

CHANNEL: Final = "innkeeper_revoked"
CACHE_SECONDS: Final = 60.0
CACHE_SIZE: Final = 10_000
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: float
    stale_at: float

    @property
    def fresh(self) -> bool:
        return time() < self.expires_at and monotonic() < self.stale_at


class Authenticator:
    """Looks tokens up, and remembers the answer while this process hears of revocations.

    A revocation reaches every process by NOTIFY. While the LISTEN connection is down nothing is taken from memory.
    """

    def __init__(self, database: Database, accepts: Callable[[str], bool] = lambda _audience: True) -> None:
        """``accepts``: whether tokens of an audience (RFC 8707) are meant for this house."""
        self._database = database
        self._accepts = accepts
        self._by_token: dict[bytes, _Cached] = {}
        self._publishable: dict[bytes, _Cached] = {}
        self._by_credential: dict[UUID, _Cached] = {}
        self._generation = 0
        self._open: dict[object, tuple[Principal, Callable[[bool], None]]] = {}

    async def start(self) -> None:
        """Begin to hear of revocations. Call once, before the first request."""
        self._database.listener.on_reconnect(self._forget_all)
        await self._database.listener.listen(CHANNEL, self._forget)

    def recall(self, known_as: bytes) -> Principal | None:
        """The principal of a token that is remembered under its fingerprint."""
        return self._remembered(self._by_token, known_as)

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of a live token, ``None`` for every other. Raises ``AppError`` when the database is away."""
        known_as = fingerprint(token)
        principal = self.recall(known_as)
        if principal is not None:
            return principal
        return await self._look_up(self._by_token, known_as, token) if is_bearer(token) else None

    async def publishable(self, key: str) -> Principal | None:
        """What a live publishable key stands for: a project, and pages. It is nobody's bearer token."""
        known_as = fingerprint(key)
        principal = self._remembered(self._publishable, known_as)
        if principal is not None:
            return principal
        return await self._look_up(self._publishable, known_as, key) if is_wellformed(key, PUBLISHABLE_KEY) else None

    def _remembered(self, cache: dict[bytes, _Cached], known_as: bytes) -> Principal | None:
        cached = cache.get(known_as)
        if cached is not None and cached.fresh and self._database.listener.listening:
            return cached.principal
        return None

    async def _look_up(self, cache: dict[bytes, _Cached], known_as: bytes, token: str) -> Principal | None:
        generation = self._generation
        async with self._database.system() as connection:
            row = await connection.fetchrow("SELECT * FROM authenticate($1)", token_hash(token))
        if row is None or not (row["audience"] is None or self._accepts(row["audience"])):
            cache.pop(known_as, None)
            return None
        origins = row["origins"]
        principal = Principal(
            credential_id=row["credential_id"],
            user_id=row["user_id"],
            project_id=row["project_id"],
            end_user_id=row["end_user_id"],
            scopes=frozenset(row["scopes"]),
            kind=row["kind"],
            read_only=row["read_only"],
            project_ids=frozenset(row["project_ids"] or ()),
            origins=None if origins is None else frozenset(origins),
        )
        self._remember(cache, known_as, principal, row["expires_at"], generation)
        return principal

    async def still_valid(self, principal: Principal) -> bool:
        """Whether the credential behind an already known principal still lives; a run's tool calls ask each time."""
        cached = self._by_credential.get(principal.credential_id)
        if cached is not None and cached.fresh and self._database.listener.listening:
            return True
        generation = self._generation
        async with self._database.system() as connection:
            row = await connection.fetchrow("SELECT * FROM credential_lifetime($1)", principal.credential_id)
        if row is None:
            self._by_credential.pop(principal.credential_id, None)
            return False
        self._remember(self._by_credential, principal.credential_id, principal, row["expires_at"], generation)
        return True

    @contextmanager
    def watching(self, principal: Principal, doubt: Callable[[bool], None]) -> Iterator[None]:
        """Around the time in which something is open on a credential: calls ``doubt`` when it may live no more, with
        True where what was open on it must end anyway, and nobody needs to ask whether it is :meth:`still_valid`."""
        entry = object()
        self._open[entry] = principal, doubt
        try:
            yield
        finally:
            del self._open[entry]

    def _remember(
        self, cache: dict[Key, _Cached], key: Key, principal: Principal, expires_at: datetime | None, generation: int
    ) -> None:
        """Keep an answer, unless a revocation was heard while it was being fetched."""
        if generation != self._generation or not self._database.listener.listening:
            return
        if len(cache) >= CACHE_SIZE:
            del cache[next(iter(cache))]
        expires = float("inf") if expires_at is None else expires_at.timestamp()
        cache[key] = _Cached(principal, expires, monotonic() + CACHE_SECONDS)

    def _forget(self, payload: str) -> None:
        """A notification of ``CHANNEL``."""
        self._generation += 1
        self._by_token = _without(self._by_token, payload)
        self._publishable = _without(self._publishable, payload)
        self._by_credential = _without(self._by_credential, payload)
        for principal, doubt in list(self._open.values()):
            if concerns(payload, principal):
                doubt(ends_tokens(payload))

    def _forget_all(self) -> None:
        self._generation += 1
        self._by_token.clear()
        self._publishable.clear()
        self._by_credential.clear()
        for _principal, doubt in list(self._open.values()):
            doubt(False)


def concerns(payload: str, principal: Principal) -> bool:
    """Whether what a notification of ``CHANNEL`` names is no longer what it was for ``principal``: ``credential:<id>``,
    ``user:<id>``, or ``token:<id>`` for one token of a credential that goes on."""
    kind, _, identifier = payload.partition(":")
    return identifier == str(principal.user_id if kind == "user" else principal.credential_id)


def ends_tokens(payload: str) -> bool:
    """Whether it was one of the credential's tokens. Nobody knows any more which: what is open on any of them ends."""
    return payload.startswith("token:")


def _without(cache: dict[Key, _Cached], payload: str) -> dict[Key, _Cached]:
    return {key: cached for key, cached in cache.items() if not concerns(payload, cached.principal)}
