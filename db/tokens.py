"""The form of our own tokens: ``ik_<kind>_`` + 43 random base62 characters + 6 of base62 CRC-32 over all before them.

The prefix lets a secret scanner find a leaked token, the checksum lets it (and us) tell a typo offline. 43 base62
characters carry 256 bits. Only the SHA-256 of a token is ever stored.
"""

from __future__ import annotations

import hmac
import secrets
import zlib
from hashlib import blake2b, sha256
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY: Final = 43
CHECK: Final = 6
SECRET_KEY: Final = "ik_sk_"  # noqa: S105  the public prefix, not a secret
FEED_KEY: Final = "ik_fk_"
"""Of the keys that only the registry's feed takes."""
ACCESS: Final = "ik_at_"
"""Of the tokens that OAuth clients get (:mod:`db.oauth.tokens`)."""
PUBLISHABLE_KEY: Final = "ik_pk_"
"""Of the keys that pages in browsers have. They are no bearer's: by themselves they open nothing."""
END_USER: Final = "ik_ut_"
"""Of the tokens that end users get (:mod:`db.end_users`)."""
BEARERS: Final = frozenset({SECRET_KEY, ACCESS, END_USER})
"""What stands before the tokens that ``/mcp`` and the APIs take; the others open pages or are exchanged for these."""
HINT: Final = len(SECRET_KEY) + 4
_VALID: Final = frozenset(ALPHABET)
_PROCESS: Final = secrets.token_bytes(32)


def new_token(prefix: str = SECRET_KEY) -> str:
    body = prefix + "".join(secrets.choice(ALPHABET) for _ in range(BODY))
    return body + _checksum(body)


def derived_token(prefix: str, key: bytes, message: bytes) -> str:
    """The token that ``key`` makes of ``message``: always the same one, and nobody finds it without both."""
    body = prefix + _base62(int.from_bytes(hmac.digest(key, message, "sha256"), "big"), BODY)
    return body + _checksum(body)


def is_wellformed(token: str, prefix: str = SECRET_KEY) -> bool:
    """Whether ``token`` can be one of ours at all; says nothing of its validity."""
    if len(token) != len(prefix) + BODY + CHECK or not token.startswith(prefix):
        return False
    return _VALID.issuperset(token[len(prefix) :]) and _checksum(token[:-CHECK]) == token[-CHECK:]


def is_bearer(token: str) -> bool:
    """Whether ``token`` can be one that ``/mcp`` and the APIs take."""
    return token[: len(SECRET_KEY)] in BEARERS and is_wellformed(token, token[: len(SECRET_KEY)])


def token_hash(token: str) -> bytes:
    """The 32 bytes stored for a token."""
    return sha256(token.encode()).digest()


def fingerprint(token: str) -> bytes:
    """16 bytes that stand for a token in the memory of this process, at a fraction of the price of its hash. Keyed, so
    that they mean nothing to anybody else."""
    return blake2b(token.encode(), digest_size=16, key=_PROCESS).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK)


def _base62(value: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
