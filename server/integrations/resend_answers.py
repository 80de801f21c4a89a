"""What Resend answers to ``POST /emails``, as it matters to a mail: the same for both ways that we call it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Final

from server.mail.carrier import DeferredError, RefusedError, UnconfirmedError, said

KEYS_LAST: Final = timedelta(hours=23)
"""Resend keeps an idempotency key for 24 hours."""
LATER: Final = frozenset({408, 425, 429})
MOST_SECONDS: Final = 24 * 3600.0


def account(api_key: str) -> str:
    """Tells one key from another, and nothing of either."""
    return sha256(api_key.encode()).hexdigest()[:12]


def failure(status: int, name: str, message: str, headers: Mapping[str, str]) -> Exception:
    """The error for an answer that is not a success."""
    detail = said(status, f"{name}: {message}")
    if status == 409 and name == "invalid_idempotent_request":
        # The key was used for this very mail before, made differently: by another version, or under another address.
        return UnconfirmedError(detail)
    if status in LATER or name == "concurrent_idempotent_requests":
        return DeferredError(detail, after=_seconds(headers), perhaps=status != 429)
    if status >= 500:
        return DeferredError(detail, after=_seconds(headers), perhaps=True)
    return RefusedError(detail)


def _seconds(headers: Mapping[str, str]) -> float | None:
    """``Retry-After`` in seconds (RFC 9110, 10.2.3); Resend sends no dates."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        return min(max(float(value), 0.0), MOST_SECONDS)
    except ValueError:
        return None
