"""What has arrived of an upload: which parts are still to come, and whether the whole is what was announced."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from db import files
from db.errors import AppError, conflict

if TYPE_CHECKING:
    import asyncpg

    from tools.store import Store, StoredObject

MEBIBYTE: Final = 1 << 20
SMALLEST_PART: Final = 16 * MEBIBYTE
MOST_PARTS: Final = 64
"""So few that one answer or two hold all tickets of a file."""


def part_size(size: int) -> int:
    """How long each part of a file is but the last: of the file's size alone, so that it never changes."""
    least = -(-size // MOST_PARTS)
    return max(SMALLEST_PART, -(-least // MEBIBYTE) * MEBIBYTE)


def parts(size: int) -> Iterator[tuple[int, int, int]]:
    """Number, offset and size of each part."""
    each = part_size(size)
    for number, offset in enumerate(range(0, max(size, 1), each), 1):
        yield number, offset, min(each, size - offset)


async def missing(store: Store, row: asyncpg.Record, upload_id: str) -> list[tuple[int, int, int]]:
    """Number, offset and size of the parts that the store has not got yet, or got in another length."""
    key = files.key_of(row)
    arrived = {part.number: part.size for part in await store.list_parts(key, upload_id)}
    return [part for part in parts(row["size"]) if arrived.get(part[0]) != part[2]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Whether an object is there as its row announced it, and its SHA-256 where somebody computed it."""

    whole: bool
    sha256: bytes | None = None


async def checked(
    store: Store, row: asyncpg.Record, progress: Callable[[float, float | None, str | None], Awaitable[None]]
) -> Arrival:
    """Accepts what an upload brought, and joins what came in parts. What the store does not know the SHA-256 of is read
    through if one was announced, which takes long for long files. Raises ``AppError`` for what is not as announced.
    """
    key = files.key_of(row)
    found = await store.head(key)
    if found is None:
        found = await _taken(store, row, key)
    if found is None:
        return Arrival(whole=False)
    if found.size != row["size"]:
        raise _differs(f"{found.size} bytes have arrived, {row['size']} were announced.")
    actual = None if found.sha256 is None else bytes.fromhex(found.sha256)
    if row["sha256"] is None:
        return Arrival(whole=True, sha256=actual)
    if actual is None:
        actual = await _read_through(store, key, row["size"], progress)
    if actual != row["sha256"]:
        raise _differs("The SHA-256 of what has arrived is not the one that was announced.")
    return Arrival(whole=True, sha256=actual)


async def _taken(store: Store, row: asyncpg.Record, key: str) -> StoredObject | None:
    """The object made of what has come, if all of it has."""
    upload_id = row["upload_id"]
    if upload_id is None:
        return await store.accept(key)
    if await missing(store, row, upload_id):
        return None
    await store.complete_multipart(key, upload_id, await store.list_parts(key, upload_id))
    return await store.head(key)


async def _read_through(
    store: Store, key: str, size: int, progress: Callable[[float, float | None, str | None], Awaitable[None]]
) -> bytes:
    seen, read, told = hashlib.sha256(), 0, 0
    async for chunk in store.stream(key):
        seen.update(chunk)
        read += len(chunk)
        if read - told >= SMALLEST_PART:
            told = read
            await progress(read, size, "checking")
    return seen.digest()


def _differs(message: str) -> AppError:
    return conflict(
        "upload_differs",
        message,
        "Delete this file with delete_file, and announce it anew with create_upload.",
        {"next_tool": "create_upload"},
    )
