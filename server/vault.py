"""Secrets of tenants at rest: AES-256-GCM under a key derived from the root secret, bound to where they are kept.

Sealed: one byte of format (1), four that name the root (``Keyring.key_id``), a nonce of twelve, then the ciphertext
with its tag (NIST SP 800-38D). Associated data: the first five bytes, the project, table and column, and what else
tells the row apart. So a sealed value moved to another project, column or row does not open, nor under another root's
name.
"""

from __future__ import annotations

import os
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from db.errors import AppError
from server.keyring import Keyring

LABEL: Final = "vault"
FORMAT: Final = b"\x01"
_HEAD: Final = 5
_NONCE: Final = 12
_TAG: Final = 16


class Vault:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, tenant_id: UUID, column: str, text: str, row: str = "") -> bytes:
        """``tenant_id``: the project, or in a table of the house the row. ``column``: ``table.column``. ``row``: what
        the secret is for, where a project has several in the column."""
        key_id, key = self._keyring.signing_keys(LABEL)[0]
        head = FORMAT + bytes.fromhex(key_id)
        nonce = os.urandom(_NONCE)
        return head + nonce + AESGCM(key).encrypt(nonce, text.encode(), _bound(head, tenant_id, column, row))

    def open(self, tenant_id: UUID, column: str, sealed: bytes, row: str = "") -> str:
        """Raises ``AppError``: ``secret_key_missing`` when it was sealed under a root that this process does not have,
        ``secret_damaged`` when it is not what was sealed for this place."""
        key_id = key_id_of(sealed)
        key = dict(self._keyring.signing_keys(LABEL)).get(key_id)
        if key is None:
            raise key_missing(key_id)
        head, nonce = sealed[:_HEAD], sealed[_HEAD : _HEAD + _NONCE]
        try:
            text = AESGCM(key).decrypt(nonce, sealed[_HEAD + _NONCE :], _bound(head, tenant_id, column, row))
        except InvalidTag:
            raise _damaged() from None
        return text.decode()


def key_id_of(sealed: bytes) -> str:
    """The id of the root it was sealed under. Raises ``AppError`` ``secret_damaged`` for what is no sealed secret."""
    if len(sealed) < _HEAD + _NONCE + _TAG or not sealed.startswith(FORMAT):
        raise _damaged()
    return sealed[1:_HEAD].hex()


def key_missing(key_id: str) -> AppError:
    return AppError(
        "secret_key_missing",
        503,
        f"A stored secret is encrypted under the root secret '{key_id}', which this server does not have.",
        "Whoever runs the server: give it that root secret again in INNKEEPER_OTHER_ROOT_SECRETS (in the file "
        "previous_root_secret under 'up') and run 'innkeeper keys rotate'; 'innkeeper doctor' says how many secrets "
        "need it. If it is lost, enter the secret anew.",
    )


def _damaged() -> AppError:
    return AppError(
        "secret_damaged",
        503,
        "A stored secret cannot be decrypted: it was changed, or moved from where it belongs.",
        "Enter the secret anew, and look into who can write to the database.",
    )


def _bound(head: bytes, tenant_id: UUID, column: str, row: str) -> bytes:
    return b"\x00".join((head + tenant_id.bytes + column.encode(), row.encode()))
