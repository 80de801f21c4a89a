"""Where the bytes of files are: what every backend does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ticket:
    url: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size: int
    etag: str
    content_type: str
    modified: datetime
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    etag: str


class Store(Protocol):
    def upload_ticket(
        self, key: str, *, size: int, content_type: str, sha256: str | None, expires_in: int
    ) -> Ticket: ...

    def download_ticket(
        self, key: str, *, filename: str, content_type: str, inline: bool, expires_in: int
    ) -> Ticket: ...

    async def start_multipart(self, key: str, content_type: str) -> str: ...

    def part_ticket(self, key: str, upload_id: str, number: int, size: int, expires_in: int) -> Ticket: ...

    async def list_parts(self, key: str, upload_id: str) -> list[Part]: ...

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None: ...

    async def abort_multipart(self, key: str, upload_id: str) -> None: ...

    async def head(self, key: str) -> StoredObject | None: ...

    async def read(self, key: str, offset: int, length: int) -> bytes: ...

    def stream(self, key: str) -> AsyncIterator[bytes]: ...

    async def put(self, key: str, data: bytes, content_type: str, if_absent: bool = False) -> None: ...

    async def delete(self, keys: Iterable[str]) -> None: ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]: ...
