"""Opaque cursors: of lists, the id of the last row shown; of long texts, how far it was read. They are wrapped so that
nobody is tempted to make one up."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from struct import Struct
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from pydantic import Field
from pydantic_core import to_json

from db.errors import AppError, Details, invalid

_ROW: Final = b"k1"
_TEXT: Final = b"k2"
_PLACE: Final = Struct(">II")
"""Characters read, and a checksum of the whole text."""

_FROM_THE_START: Final[Details] = {"arguments": [{"do": "drop", "at": "cursor"}]}

DEFAULT_ROWS: Final = 25
Limit: TypeAlias = Annotated[int, Field(ge=1, le=100, description="Most rows to return.")]
Cursor: TypeAlias = Annotated[str | None, Field(max_length=200, description="next_cursor of the answer before.")]


def to_cursor(last: UUID) -> str:
    return _wrapped(_ROW + last.bytes)


def from_cursor(cursor: str | None) -> UUID | None:
    """The id behind a cursor. Raises ``AppError`` ``invalid_cursor`` for anything we did not make."""
    if cursor is None:
        return None
    raw = _unwrapped(cursor)
    if len(raw) != 18 or not raw.startswith(_ROW):
        raise _foreign("page")
    return UUID(bytes=raw[2:])


def part(text: str, cursor: str | None, room: int) -> tuple[str, str | None]:
    """The part of a long text that begins where ``cursor`` says and takes at most ``room`` bytes as JSON, with the
    cursor of the rest; ``None`` at the end. Raises ``AppError`` for a cursor of another text, or of a former one."""
    start = 0 if cursor is None else _place(cursor, text)
    rest = text[start:]
    if len(rest) * 6 <= room or len(to_json(rest)) <= room:
        return rest, None
    low, high = 1, len(rest)
    while low < high:
        middle = (low + high + 1) // 2
        if len(to_json(rest[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return rest[:low], _wrapped(_TEXT + _PLACE.pack(start + low, _checksum(text)))


def _place(cursor: str, text: str) -> int:
    raw = _unwrapped(cursor)
    if len(raw) != len(_TEXT) + _PLACE.size or not raw.startswith(_TEXT):
        raise _foreign("part")
    place, checksum = _PLACE.unpack(raw[2:])
    if checksum != _checksum(text):
        raise AppError(
            "stale_cursor",
            409,
            "The text has changed since that cursor was made.",
            "Leave cursor out to read it from its beginning.",
            details=_FROM_THE_START,
        )
    return int(place)


def _checksum(text: str) -> int:
    return binascii.crc32(text.encode())


def _wrapped(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _unwrapped(cursor: str) -> bytes:
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        return b""


def _foreign(first: str) -> AppError:
    return invalid(
        "That cursor is not one of this list.",
        f"Leave cursor out to start at the first {first}.",
        "invalid_cursor",
        _FROM_THE_START,
    )
