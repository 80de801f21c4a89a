"""Tokens of issuers as they are kept: sealed, each for its own identity's row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db import identities
from db.identities import Sealed
from server.issuers.issuer import Token

if TYPE_CHECKING:
    from uuid import UUID

    from server.vault import Vault


def sealed(vault: Vault, identity: UUID, token: Token | None) -> Sealed | None:
    if token is None:
        return None
    return Sealed(token.kind, vault.seal(identity, identities.TOKEN, token.value))


def opened(vault: Vault, identity: UUID, kept: Sealed) -> Token:
    """Raises ``AppError`` when no root secret of this process opens it."""
    return Token(kept.kind, vault.open(identity, identities.TOKEN, kept.token))
