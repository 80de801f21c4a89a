"""Text of a file inside an answer, part by part: each is read from the store by itself, however long the file is."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from db import files
from db.errors import AppError
from tools.pages import from_offset, longest, to_offset
from tools.resources import Document
from tools.result import MOST_BYTES, NOTE_BYTES

if TYPE_CHECKING:
    import asyncpg

    from tools.store import Store

TEXTS: Final = frozenset(
    {
        *("application/json", "application/xml", "application/yaml", "application/x-yaml", "application/toml"),
        *("application/javascript", "application/x-ndjson", "application/jsonl", "application/sql", "image/svg+xml"),
    }
)
SHORTEST: Final = 200


def is_text(content_type: str) -> bool:
    """Whether a model may want to read files of this type."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind.endswith(("+json", "+xml", "+yaml")) or kind in TEXTS


async def document(store: Store, row: asyncpg.Record) -> Document | None:
    """The whole file, when an answer can hold it."""
    text = is_text(row["content_type"])
    if row["size"] > (MOST_BYTES - NOTE_BYTES) * (1 if text else 3 / 4):
        return None
    data = await _read(store, row, 0, row["size"])
    text = text and decoded(data, whole=True) is not None
    if not text and len(data) > (MOST_BYTES - NOTE_BYTES) * 3 / 4:
        return None
    return Document(data, row["content_type"], text)


async def part(store: Store, row: asyncpg.Record, cursor: str | None, room: int) -> tuple[str | None, str | None]:
    """The text of a file from where ``cursor`` says, at most ``room`` bytes as JSON, with the cursor of the rest.

    No text when the bytes are not UTF-8. Raises ``AppError`` for a cursor of another file.
    """
    size, start = row["size"], from_offset(cursor, row["id"])
    wanted = min(max(room, SHORTEST), size - start)
    if wanted <= 0:
        return "", None
    data = await _read(store, row, start, wanted)
    text = decoded(data, whole=start + len(data) >= size)
    if text is None:
        return None, None
    text = longest(text, max(room, SHORTEST))
    read = start + len(text.encode())
    return text, to_offset(read, row["id"]) if read < size else None


async def _read(store: Store, row: asyncpg.Record, offset: int, length: int) -> bytes:
    data = await store.read(files.key_of(row), offset, length) if length else b""
    if len(data) < length:
        raise AppError(
            "file_lost",
            410,
            "The store has no bytes of this file any more.",
            "Delete it with delete_file, and upload it anew with create_upload.",
            details={"next_tool": "delete_file"},
        )
    return data


def decoded(data: bytes, *, whole: bool) -> str | None:
    """The text of bytes that may end within a character, unless they are ``whole``."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
