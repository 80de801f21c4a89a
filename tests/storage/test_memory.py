"""How much memory of the serving process a long file takes on its way up and down: a real process, and its own peak."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import DatabaseUrls, Tenant
from tests.server.command import noted
from tests.server.test_serve import environ_of
from tests.storage.desk import Desk

MEBIBYTE = 1 << 20
MOST = 20 * MEBIBYTE
PIECE = bytes(range(256)) * 256
PUBLIC = "https://inn.example.com"


def memory_of(pid: int, name: str) -> int:
    """``VmRSS``: what is in memory now, ``VmHWM``: the most that was since it was last forgotten. In bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


async def content(size: int, seen: Any) -> AsyncIterator[bytes]:
    """So many bytes, which ``seen`` hashes on their way."""
    for start in range(0, size, len(PIECE)):
        piece = PIECE[: size - start]
        seen.update(piece)
        yield piece


async def there_and_back(desk: Desk, size: int) -> None:
    """Announce, send part by part, confirm and read again a file of this size."""
    sent = hashlib.sha256()
    made = await desk.call("create_upload", path=f"{size}.bin", size=size)
    while made["status"] == "pending":
        tickets = made["parts"] or [{**made["ticket"], "size": size}]
        for ticket in tickets:
            length = {"content-length": str(ticket["size"]), **ticket.get("headers", {})}
            url = ticket["url"].replace(PUBLIC, desk.url)
            answer = await desk.client.put(url, content=content(ticket["size"], sent), headers=length)
            assert answer.status_code == 201, answer.text
        made = await desk.call("confirm_upload", file_id=made["id"], max_bytes=25_000)
    got = hashlib.sha256()
    url = (await desk.call("get_file", file_id=made["id"]))["ticket"]["url"].replace(PUBLIC, desk.url)
    async with desk.client.stream("GET", url) as answer:
        async for data in answer.aiter_raw():
            got.update(data)
    assert got.digest() == sent.digest()


@pytest.mark.promise("STO-05")
@pytest.mark.parametrize("size", [200 * MEBIBYTE, pytest.param(10**9, marks=pytest.mark.long)])
async def test_a_long_file_up_and_down_takes_little_memory(
    urls: DatabaseUrls, tenant: Tenant, tmp_path: Path, size: int
) -> None:
    environ = environ_of(urls, INNKEEPER_FILES_DIR=str(tmp_path / "files"))
    async with (
        noted("serve", "--port", "0", cwd=tmp_path, environ=environ, until="ready: ") as running,
        httpx2.AsyncClient(timeout=300, trust_env=False) as client,
    ):
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", running.ready["said"])
        assert found
        desk = Desk(client, found[1], tenant.token, tenant.project_id)
        run = {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "hello"}]}
        # A run, and a short file, bring into memory what stays there.
        answer = await client.post(f"{desk.url}/agui/demo", json=run, headers={"authorization": f"Bearer {desk.token}"})
        assert "RUN_FINISHED" in answer.text
        await there_and_back(desk, 20 * MEBIBYTE)
        pid = running.process.pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = memory_of(pid, "VmRSS")

        await there_and_back(desk, size)

        taken = memory_of(pid, "VmHWM") - before
        assert taken < MOST, f"{taken / MEBIBYTE:.1f} MiB"
        print(f"{size} bytes up and down: {taken / MEBIBYTE:.1f} MiB more at the most")
