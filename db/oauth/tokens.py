"""The tokens of OAuth clients: how they look, how long they live, and what is handed out together.

An access token is good for an hour. A refresh token is good for months from when it was made, and makes the next one:
the successor is derived from the token itself and a salt in the database, so that everybody who presents the same token
gets the same successor, though neither is stored.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from db.tokens import ACCESS, derived_token, new_token, token_hash

REFRESH: Final = "ik_rt_"
CODE: Final = "ik_ac_"
DEVICE: Final = "ik_dc_"
CLIENT: Final = "ik_ci_"
SECRET: Final = "ik_cs_"  # noqa: S105  the public prefix, not a secret
ACCESS_LIFE: Final = timedelta(hours=1)
REFRESH_LIFE: Final = timedelta(days=90)
SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client gets, once. ``scopes``: those of the access token."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    scopes: tuple[str, ...]
    seconds: int = int(ACCESS_LIFE.total_seconds())


@dataclass(frozen=True, slots=True)
class Pair:
    """New tokens that nobody has yet; ``refresh`` is ``None`` for a client that gets none."""

    access: str
    refresh: str | None

    @classmethod
    def new(cls, *, refreshable: bool) -> Pair:
        """An access token, and a refresh token where its grant has them."""
        return cls(new_token(ACCESS), new_token(REFRESH) if refreshable else None)

    @property
    def stored(self) -> tuple[bytes, timedelta, bytes | None, timedelta]:
        """Hashes and lives, as the functions of the database take them."""
        refresh = None if self.refresh is None else token_hash(self.refresh)
        return token_hash(self.access), ACCESS_LIFE, refresh, REFRESH_LIFE

    def issued(self, scopes: list[str]) -> Issued:
        return Issued(self.access, self.refresh, tuple(scopes))


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def successor(token: str, salt: bytes) -> str:
    """The refresh token that ``token`` is exchanged for."""
    return derived_token(REFRESH, token.encode(), salt)
