"""The form of our own tokens: ``ik_<kind>_`` + 43 random base62 characters + 6 of base62 CRC-32 over all before them.

The prefix lets a secret scanner find a leaked token, the checksum lets it (and us) tell a typo offline. 43 base62
characters carry 256 bits. Only the SHA-256 of a token is ever stored.
"""

from __future__ import annotations

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
HINT: Final = len(SECRET_KEY) + 4
_VALID: Final = frozenset(ALPHABET)
_PROCESS: Final = secrets.token_bytes(32)


def new_token(prefix: str = SECRET_KEY) -> str:
    body = prefix + "".join(secrets.choice(ALPHABET) for _ in range(BODY))
    return body + _checksum(body)


def is_wellformed(token: str, prefix: str = SECRET_KEY) -> bool:
    """Whether ``token`` can be one of ours at all; says nothing of its validity."""
    if len(token) != len(prefix) + BODY + CHECK or not token.startswith(prefix):
        return False
    return _VALID.issuperset(token[len(prefix) :]) and _checksum(token[:-CHECK]) == token[-CHECK:]


def token_hash(token: str) -> bytes:
    """The 32 bytes stored for a token."""
    return sha256(token.encode()).digest()


def fingerprint(token: str) -> bytes:
    """16 bytes that stand for a token in the memory of this process, at a fraction of the price of its hash. Keyed, so
    that they mean nothing to anybody else."""
    return blake2b(token.encode(), digest_size=16, key=_PROCESS).digest()


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECK):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
