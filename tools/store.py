"""Where the bytes of files are: what every store does.

Keys are those of ``db.files.key`` and ``db.components.blob_key``. What the ticket of an upload brings is kept apart,
where nobody reads, until it is accepted: so the bytes behind a key never change, and no ticket writes one twice.
Everything raises ``AppError`` 503 ``store_unavailable`` while the store cannot be reached.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn, Protocol, cast

from db.errors import AppError


@dataclass(frozen=True, slots=True)
class Ticket:
    """A signed address: whoever has it may do this one thing until ``expires_at``. ``headers`` go with the request."""

    url: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``sha256``: in hex, of the whole object, when the store knows it."""

    key: str
    size: int
    modified: datetime
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    etag: str


class Store(Protocol):
    def upload_ticket(
        self, key: str, *, size: int, content_type: str, sha256: str | None, expires_in: int, bare: bool = False
    ) -> Ticket:
        """To ``PUT`` exactly these many bytes of this type, and with this SHA-256 (hex) if one is given, once.

        ``bare``: for clients that send no header but ``Content-Type``. What they bring they may then bring again, until
        it is accepted.
        """
        ...

    def download_ticket(self, key: str, *, filename: str, content_type: str, inline: bool, expires_in: int) -> Ticket:
        """To ``GET`` the object as ``content_type``; shown by a browser if ``inline``, else saved as ``filename``."""
        ...

    async def fetch(self, url: str, most: int) -> bytes:
        """What the address of a download ticket of this store leads to, for who got it inside this process.

        Raises ``AppError``: ``ticket_refused`` for any other address, 413 ``content_too_large`` over ``most`` bytes.
        """
        ...

    async def start_multipart(self, key: str, content_type: str) -> str:
        """Begin an upload in parts; its name."""
        ...

    def part_ticket(self, key: str, upload_id: str, number: int, size: int, expires_in: int) -> Ticket:
        """To ``PUT`` one part (numbered from 1) of exactly ``size`` bytes. A part may be sent again."""
        ...

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """What has arrived, by number; nothing of an upload that is not there any more."""
        ...

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object out of its parts, all but the last of at least 5 MiB. Done twice, it is done once."""
        ...

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget the parts; their tickets lead nowhere from then on."""
        ...

    async def accept(self, key: str) -> StoredObject | None:
        """Make what an upload's ticket brought the object of the key, once and for all; ``None`` if nothing came."""
        ...

    async def seal(self, key: str) -> None:
        """Let upload tickets of the key that are still good bring nothing from now on, and drop what they brought."""
        ...

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object of the house's own, in place of what is there."""
        ...

    async def head(self, key: str) -> StoredObject | None: ...

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` on; none where there is no object."""
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """The whole object in pieces, of which few are in memory at a time."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; it is no fault if they are not there."""
        ...

    def list(self, prefix: str, after: str = "") -> AsyncGenerator[StoredObject]:
        """Objects whose key begins with ``prefix`` (which ends with a slash) and comes behind the key ``after``, in
        the order of their keys; without SHA-256 sums."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Remove what uploads left behind that began before: seals, bytes nobody accepted, parts. How many."""
        ...


class _NoStore:
    """For a process without a place for files: whatever is asked of it says so."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        return _no_store


def _no_store(*_given: object, **_named: object) -> NoReturn:
    raise AppError(
        "storage_not_configured", 503, "This house has no place for files.", "Ask who runs it to configure one."
    )


NO_STORE: Final = cast(Store, _NoStore())
