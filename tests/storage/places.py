"""Stores as they are used: the real backend, and a client on a real socket that has nothing but tickets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from db import files
from db.ids import uuid7
from server.http.files import ROUTE, FileEdge
from server.http.front_door import FrontDoor
from server.integrations.local_files import LocalFiles
from server.integrations.local_tickets import TicketSigner
from server.integrations.s3_files import S3Files
from server.metrics import Metrics
from tests.server.edge_services import served
from tests.storage.weed import Weed
from tools.store import Store, Ticket

KEYS = (b"a key of tests, and of nothing else",)
TYPE = "text/plain"


@dataclass
class Place:
    """``least``: bytes of the shortest part but the last one."""

    store: Store
    client: httpx2.AsyncClient
    least: int = 1

    def key(self, *, temporary: bool = False) -> str:
        return files.key(uuid7(), uuid7(), temporary=temporary)

    def upload(
        self, key: str, data: bytes, sha256: str | None = None, *, kind: str = TYPE, seconds: int = 60
    ) -> Ticket:
        return self.store.upload_ticket(key, size=len(data), content_type=kind, sha256=sha256, expires_in=seconds)

    def download(self, key: str, *, inline: bool = False, kind: str = TYPE, seconds: int = 60) -> Ticket:
        return self.store.download_ticket(
            key, filename="notes.txt", content_type=kind, inline=inline, expires_in=seconds
        )

    async def use(self, ticket: Ticket, data: bytes | None = None, **changes: Any) -> httpx2.Response:
        """Send the request a ticket is for, with ``changes`` of it."""
        headers = {**ticket.headers, **changes.pop("headers", {})}
        request = {"method": ticket.method, "url": ticket.url, "content": data, **changes}
        kept = {name: value for name, value in headers.items() if value is not None}
        return await self.client.request(**request, headers=kept)

    async def put(self, data: bytes, key: str | None = None) -> str:
        """An object that was sent and accepted; its key."""
        key = key or self.key()
        assert (await self.use(self.upload(key, data), data)).is_success
        assert await self.store.accept(key) is not None
        return key


@asynccontextmanager
async def local_place(root: Path) -> AsyncIterator[Place]:
    """The local store in ``root``, behind the doors it has in production."""
    store = LocalFiles(root, TicketSigner(lambda: KEYS), "")
    await store.open()
    app = FrontDoor(FileEdge(store, lambda host: host.startswith("127.0.0.1:")), Metrics(), ROUTE)
    async with served(app) as (host, port), httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        store.base_url = f"http://{host}:{port}"
        yield Place(store, client)
    await store.aclose()


@asynccontextmanager
async def bucket_place(weed: Weed, **changes: object) -> AsyncIterator[Place]:
    """A bucket of its own."""
    name = f"innkeeper-{uuid7().hex}"
    weed.make_bucket(name)
    store = await S3Files.open(weed.settings(name, **changes))
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield Place(store, client, least=5 << 20)
    await store.aclose()
