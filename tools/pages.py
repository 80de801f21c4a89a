"""Keyset pages: a cursor is the id of the last row shown, wrapped so that nobody is tempted to make one up."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from pydantic import Field

from db.errors import invalid

_MARK: Final = b"k1"
Limit: TypeAlias = Annotated[int, Field(ge=1, le=100, description="Most rows to return.")]
Cursor: TypeAlias = Annotated[str | None, Field(max_length=200, description="next_cursor of the page before.")]


def to_cursor(last: UUID) -> str:
    return urlsafe_b64encode(_MARK + last.bytes).decode().rstrip("=")


def from_cursor(cursor: str | None) -> UUID | None:
    """The id behind a cursor. Raises ``AppError`` ``invalid_cursor`` for anything we did not make."""
    if cursor is None:
        return None
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 18 or not raw.startswith(_MARK):
        raise invalid(
            "That cursor is not one of this list.", "Leave cursor out to start at the first page.", "invalid_cursor"
        )
    return UUID(bytes=raw[2:])
