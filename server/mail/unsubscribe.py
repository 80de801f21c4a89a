"""Links that end mail for an audience. Whoever has one needs no account; it says for whom, and nobody can make one up.

A link lasts as long as the root secret does, or is accepted after it: mail is read years later. It identifies a contact
by ids alone (RFC 8058, 7).
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from server.keyring import Keyring

LABEL: Final = "unsubscribe"
PATH: Final = "/unsubscribe"
_CONTACT: Final = b"\x01"
_HOUSE: Final = b"\x02"
_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose link it is: a contact of a project, or without one somebody the house wrote to. ``mail_id``: with what."""

    mail_id: UUID
    project_id: UUID | None = None
    contact_id: UUID | None = None


class UnsubscribeLinks:
    """Makes links under a public address, and reads the tokens in them."""

    def __init__(self, keyring: Keyring, public_url: str) -> None:
        self._keyring = keyring
        self._base = f"{public_url.rstrip('/')}{PATH}"

    def of_contact(self, project_id: UUID, contact_id: UUID, email_id: UUID) -> str:
        return self._link(_CONTACT + project_id.bytes + contact_id.bytes + email_id.bytes)

    def of_house(self, mail_id: UUID) -> str:
        return self._link(_HOUSE + mail_id.bytes)

    def read(self, token: str) -> Reader | None:
        """``None`` for a token that we did not make."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        keys = self._keyring.signing_keys(LABEL)
        if not any(hmac.compare_digest(mac, _mac(key, said)) for _id, key in keys):
            return None
        ids = [UUID(bytes=said[at : at + 16]) for at in range(1, len(said), 16)]
        return Reader(ids[2], ids[0], ids[1]) if said[:1] == _CONTACT else Reader(ids[0])

    def _link(self, said: bytes) -> str:
        _id, key = self._keyring.signing_keys(LABEL)[0]
        token = urlsafe_b64encode(said + _mac(key, said)).decode().rstrip("=")
        return f"{self._base}/{token}"


def _mac(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")[:_MAC_BYTES]
