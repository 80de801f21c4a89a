"""Opaque cursors: of lists, the id of the last row shown, and its path where the list is in the order of paths; of long
texts, how far it was read. They are wrapped so that nobody is tempted to make one up."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Annotated, Any, Final, Protocol, TypeAlias, TypeVar
from uuid import UUID

from pydantic import Field
from pydantic_core import to_json

from db.errors import AppError, Details, invalid

_ROW: Final = b"k1"
_TEXT: Final = b"k2"
_PATH: Final = b"k3"
_BYTES: Final = b"k4"
_WITHIN: Final = b"k5"
_PLACE: Final = Struct(">II")
"""Characters read, and a checksum of the whole text."""

_FROM_THE_START: Final[Details] = {"arguments": [{"do": "drop", "at": "cursor"}]}

DEFAULT_ROWS: Final = 25
Limit: TypeAlias = Annotated[int, Field(ge=1, le=100, description="Most rows to return.")]
Cursor: TypeAlias = Annotated[str | None, Field(max_length=200, description="next_cursor of the answer before.")]


class Shown(Protocol):
    """What a list shows of a row."""

    id: UUID


Row = TypeVar("Row")
Entry = TypeVar("Entry", bound=Shown)


def cut(rows: Sequence[Row], limit: int, shown: Callable[[Row], Entry]) -> tuple[list[Entry], str | None]:
    """What a page shows of ``rows``, of which one more than ``limit`` was asked for, and the cursor of what comes
    after; ``None`` at the end."""
    entries = [shown(row) for row in rows[:limit]]
    return entries, to_cursor(entries[-1].id) if len(rows) > limit else None


def to_cursor(last: UUID) -> str:
    return _wrapped(_ROW + last.bytes)


def from_cursor(cursor: str | None) -> UUID | None:
    """The id behind a cursor. Raises ``AppError`` ``invalid_cursor`` for anything we did not make."""
    if cursor is None:
        return None
    raw = _unwrapped(cursor)
    if len(raw) != 18 or not raw.startswith(_ROW):
        raise foreign("page")
    return UUID(bytes=raw[2:])


def to_path_cursor(path: str, last: UUID) -> str:
    return _wrapped(_PATH + last.bytes + path.encode())


def from_path_cursor(cursor: str | None) -> tuple[str, UUID] | None:
    """Path and id of the last row shown. Raises ``AppError`` ``invalid_cursor`` for anything we did not make."""
    if cursor is None:
        return None
    raw = _unwrapped(cursor)
    try:
        if len(raw) <= 18 or not raw.startswith(_PATH):
            raise foreign("page")
        return raw[18:].decode(), UUID(bytes=raw[2:18])
    except UnicodeDecodeError:
        raise foreign("page") from None


def to_place_cursor(project_id: UUID, kind: int, after: str | None) -> str:
    """Within a project: which kind of what it has several of, and after which cursor of that kind."""
    return _wrapped(_WITHIN + project_id.bytes + bytes([kind]) + (after or "").encode())


def from_place_cursor(cursor: str | None) -> tuple[UUID, int, str | None] | None:
    """``None`` for a cursor of any other kind."""
    raw = _unwrapped(cursor or "")
    if len(raw) < 19 or not raw.startswith(_WITHIN):
        return None
    return UUID(bytes=raw[2:18]), raw[18], raw[19:].decode("ascii", "replace") or None


def after_row(row: Mapping[str, Any]) -> str:
    """The cursor of what comes after a row of an answer: by its path, if it has one."""
    file_id = UUID(row["id"])
    return to_path_cursor(row["path"], file_id) if "path" in row else to_cursor(file_id)


def part(text: str, cursor: str | None, room: int) -> tuple[str, str | None]:
    """The part of a long text that begins where ``cursor`` says and takes at most ``room`` bytes as JSON, with the
    cursor of the rest; ``None`` at the end. Raises ``AppError`` for a cursor of another text, or of a former one."""
    start = 0 if cursor is None else _place(cursor, text)
    rest = text[start:]
    kept = longest(rest, room)
    if len(kept) == len(rest):
        return rest, None
    return kept, _wrapped(_TEXT + _PLACE.pack(start + len(kept), _checksum(text)))


def longest(text: str, room: int) -> str:
    """As much of the beginning of a text as takes at most ``room`` bytes as JSON."""
    if len(text) * 6 <= room or len(to_json(text)) <= room:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(to_json(text[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def to_offset(read: int, subject: UUID) -> str:
    """The cursor of what comes after so many bytes of something that never changes."""
    return _wrapped(_BYTES + subject.bytes + read.to_bytes(8))


def from_offset(cursor: str | None, subject: UUID) -> int:
    """How many bytes were read. Raises ``AppError`` ``invalid_cursor`` for a cursor of anything else."""
    if cursor is None:
        return 0
    raw = _unwrapped(cursor)
    if len(raw) != 26 or raw[:18] != _BYTES + subject.bytes:
        raise foreign("part")
    return int.from_bytes(raw[18:])


def _place(cursor: str, text: str) -> int:
    raw = _unwrapped(cursor)
    if len(raw) != len(_TEXT) + _PLACE.size or not raw.startswith(_TEXT):
        raise foreign("part")
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


def foreign(first: str) -> AppError:
    """For a cursor of something else. ``first``: what one without it begins with."""
    return invalid(
        "That cursor is not one of this list.",
        f"Leave cursor out to start at the first {first}.",
        "invalid_cursor",
        _FROM_THE_START,
    )
