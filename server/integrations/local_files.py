"""Files on a local disk, behind signed addresses of our own: the store of who has no other.

Several processes may share the directory if they share the disk. Whatever touches the disk does so in threads of the
store's own, so that a slow disk holds up no request but those for files.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit
from uuid import uuid4

from db.errors import AppError
from server.integrations.local_disk import CHUNK, LocalDisk
from server.integrations.local_tickets import PATH, Claims, TicketSigner, refused
from tools.store import Part, StoredObject, Ticket

THREADS: Final = 8
T = TypeVar("T")


class LocalFiles:
    """A :class:`tools.store.Store` in a directory. ``base_url``: where its addresses lead, without a path."""

    def __init__(self, root: Path, signer: TicketSigner, base_url: str) -> None:
        self.disk = LocalDisk(root)
        self.signer = signer
        self.base_url = base_url.rstrip("/")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    async def open(self) -> None:
        await self.run(self.disk.make)

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """``work`` in a thread of the store. A full or broken disk is an ``AppError``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except OSError as error:
            raise _from_disk(error) from error

    def upload_ticket(
        self, key: str, *, size: int, content_type: str, sha256: str | None, expires_in: int, bare: bool = False
    ) -> Ticket:
        claims = {"size": str(size), "type": content_type} | ({"sha256": sha256} if sha256 else {})
        headers = {"content-type": content_type, "content-length": str(size)}
        return self._ticket("PUT", key, claims, headers, expires_in)

    def part_ticket(self, key: str, upload_id: str, number: int, size: int, expires_in: int) -> Ticket:
        claims = {"size": str(size), "upload": upload_id, "part": str(number)}
        return self._ticket("PUT", key, claims, {"content-length": str(size)}, expires_in)

    def download_ticket(self, key: str, *, filename: str, content_type: str, inline: bool, expires_in: int) -> Ticket:
        claims = {"name": filename, "type": content_type} | ({"inline": "1"} if inline else {})
        return self._ticket("GET", key, claims, {}, expires_in)

    def _ticket(
        self, method: str, key: str, claims: Mapping[str, str], headers: dict[str, str], expires_in: int
    ) -> Ticket:
        expires_at = int(time()) + expires_in
        url = self.base_url + self.signer.sign(method, key, claims, expires_at)
        return Ticket(url, method, headers, datetime.fromtimestamp(expires_at, UTC))

    def check(self, method: str, path: str, query: str) -> Claims:
        """What an address of this store allows; a ``HEAD`` is allowed to who may ``GET``."""
        claims = self.signer.check("GET" if method == "HEAD" else method, path.removeprefix(PATH), query)
        self.disk.path(claims.key)
        return claims

    async def fetch(self, url: str, most: int) -> bytes:
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self.base_url:
            raise refused("This is no address of the store.")
        key = self.check("GET", parts.path, parts.query).key
        found = await self.head(key)
        if found is None:
            raise gone()
        if found.size > most:
            raise too_large(found.size, most)
        return await self.read(key, 0, found.size)

    async def start_multipart(self, key: str, content_type: str) -> str:
        upload_id = uuid4().hex
        await self.run(lambda: self.disk.upload(upload_id).mkdir(mode=0o700))
        return upload_id

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        return await self.run(self.disk.parts, upload_id)

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        try:
            await self.run(self.disk.join, key, upload_id, [part.number for part in parts])
        except AppError:
            if await self.head(key) is None:
                raise

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        await self.run(self.disk.abort, upload_id)

    async def accept(self, key: str) -> StoredObject | None:
        await self.run(self.disk.accept, key)
        return await self.head(key)

    async def seal(self, key: str) -> None:
        await self.run(self.disk.seal, key)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await self.run(self.disk.put, key, data)

    async def head(self, key: str) -> StoredObject | None:
        return await self.run(self.disk.found, key)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        return await self.run(self.disk.read, key, offset, length)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        opened = await self.run(self.disk.open, key)
        if opened is None:
            return
        descriptor, offset = opened[0], 0
        try:
            while data := await self.run(os.pread, descriptor, CHUNK, offset):
                offset += len(data)
                yield data
        finally:
            os.close(descriptor)

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self.run(self.disk.delete, key)

    async def list(self, prefix: str, after: str = "") -> AsyncGenerator[StoredObject]:
        pages = self.disk.pages(prefix, after)
        while (page := await self.run(cast("Callable[..., list[StoredObject] | None]", next), pages, None)) is not None:
            for one in page:
                yield one

    async def sweep(self, before: datetime) -> int:
        return await self.run(self.disk.sweep, before)


def gone() -> AppError:
    return AppError("file_not_found", 404, "There is no file behind this address any more.", "Ask for a new ticket.")


def too_large(size: int, most: int) -> AppError:
    return AppError(
        "content_too_large",
        413,
        f"The file has {size} bytes; at most {most} are taken here.",
        "Use a shorter file, or work with its download ticket.",
    )


def _from_disk(error: OSError) -> AppError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AppError("storage_full", 507, "The disk that holds files is full.", "Ask who runs this house for room.")
    return AppError(
        "store_unavailable", 503, "The disk that holds files does not answer.", "Try again shortly.", True, 5
    )
