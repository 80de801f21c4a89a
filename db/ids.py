"""Row ids: UUID version 7 (RFC 9562), so that primary keys grow with time and pages can be keyed by them."""

from __future__ import annotations

import os
import time
from uuid import UUID

_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, 12 of their fraction (6.2, method 3), then 62 random ones.

    What is made one after the other sorts so within a millisecond too, as it does with PostgreSQL's ``uuidv7()``.
    """
    millis, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=(millis & 0xFFFF_FFFF_FFFF) << 80 | fraction << 64 | _VERSION_AND_VARIANT | random)
