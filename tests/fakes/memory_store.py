"""A store in memory, for what tools and jobs do with one. It signs nothing: the real ones are tested by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from db.errors import AppError
from tools.store import Part, StoredObject, Ticket

CHUNK = 1 << 16


def _moment(seconds: int = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@dataclass
class MemoryStore:
    """``sums``: whether it knows SHA-256 sums, as some stores do. ``asked``: the tickets it was asked for, ``incoming``
    what was sent and not accepted, ``sealed`` the keys whose upload tickets bring nothing any more."""

    sums: bool = True
    objects: dict[str, tuple[bytes, StoredObject]] = field(default_factory=dict)
    incoming: dict[str, bytes] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def _ticket(self, method: str, key: str, seconds: int, headers: dict[str, str] | None = None) -> Ticket:
        self.asked.append((method, key))
        url = f"https://store.example.test/{key}?signature={len(self.asked)}"
        return Ticket(url=url, method=method, headers=headers or {}, expires_at=_moment(seconds))

    def upload_ticket(
        self, key: str, *, size: int, content_type: str, sha256: str | None, expires_in: int, bare: bool = False
    ) -> Ticket:
        headers = {"content-type": content_type, "content-length": str(size)} | ({"sha256": sha256} if sha256 else {})
        return self._ticket("PUT", key, expires_in, headers)

    def download_ticket(self, key: str, *, filename: str, content_type: str, inline: bool, expires_in: int) -> Ticket:
        return self._ticket("GET", key, expires_in)

    def part_ticket(self, key: str, upload_id: str, number: int, size: int, expires_in: int) -> Ticket:
        return self._ticket("PUT", f"{key}/{upload_id}/{number}", expires_in)

    async def fetch(self, url: str, most: int) -> bytes:
        key = url.removeprefix("https://store.example.test/").partition("?")[0]
        return self.objects[key][0]

    def send(self, key: str, data: bytes) -> None:
        """As if a client had used an upload ticket."""
        if key not in self.sealed:
            self.incoming[key] = data

    def hold(self, key: str, data: bytes, *, age: timedelta = timedelta(0)) -> None:
        digest = hashlib.sha256(data).hexdigest() if self.sums else None
        self.objects[key] = (data, StoredObject(key, len(data), _moment() - age, digest))

    def forget_sum(self, key: str) -> None:
        data, found = self.objects[key]
        self.objects[key] = (data, replace(found, sha256=None))

    async def start_multipart(self, key: str, content_type: str) -> str:
        upload_id = f"upload-{len(self.uploads) + 1}"
        self.uploads[upload_id] = {}
        return upload_id

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        held = self.uploads.get(upload_id, {})
        return [Part(number, len(data), f"e{number}") for number, data in sorted(held.items())]

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        held = self.uploads.pop(upload_id)
        self.hold(key, b"".join(held[part.number] for part in parts))
        self.forget_sum(key)

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)

    async def accept(self, key: str) -> StoredObject | None:
        self._require_there()
        if key in self.incoming and key not in self.objects:
            self.hold(key, self.incoming[key])
        return await self.head(key)

    async def seal(self, key: str) -> None:
        self._require_there()
        self.sealed.add(key)
        self.incoming.pop(key, None)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self._require_there()
        self.hold(key, data)

    async def head(self, key: str) -> StoredObject | None:
        self._require_there()
        found = self.objects.get(key)
        return found[1] if found else None

    async def read(self, key: str, offset: int, length: int) -> bytes:
        return self.objects[key][0][offset : offset + length]

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        data = self.objects[key][0]
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    async def delete(self, keys: Iterable[str]) -> None:
        self._require_there()
        for key in keys:
            self.objects.pop(key, None)

    async def list(self, prefix: str, after: str = "") -> AsyncGenerator[StoredObject]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield self.objects[key][1]

    async def sweep(self, before: datetime) -> int:
        return 0

    def _require_there(self) -> None:
        if self.away:
            raise AppError("store_unavailable", 503, "The store cannot be reached.", "Try again shortly.", True, 2)
