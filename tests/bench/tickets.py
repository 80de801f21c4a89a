"""What a ticket costs: CPU time of the serving process for each one handed out through ``/mcp`` (STO-05).

    python -m tests.bench.tickets [--requests 1000] [--rounds 5]

The server is ``innkeeper serve`` as it ships, once on its own disk and once on a real S3-compatible server; one client
asks over one kept-alive connection. Downloads are ``get_file`` of a picture, uploads ``create_upload`` with a SHA-256:
a row, its audit and a quota kept, in one transaction. CPU time of the serving process is counted, all of its threads
with it; the database and the store are other processes. Rounds alternate, and the median of each counts. Exits 1 when
tickets are slower than 1,200 a second on the disk or 700 on S3, in seconds of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil  # type: ignore[import-untyped]  # it brings no types

from db import accounts
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from migrations import runner
from server.listening import bind
from tests.bench.mcp_overhead import MODERN
from tests.db.clusters import open_folder
from tests.server.command import PROGRAM, ROOT
from tests.storage.weed import weed

BARS = {"local": 1200.0, "s3": 700.0}
ERAS = ("handshake", "modern")
PICTURE = b"\x89PNG" + bytes(1000)
UNLIMITED = {
    f"INNKEEPER_{name}": "0"
    for name in ("RATE_PER_KEY", "RATE_PER_PROJECT", "CALLS_PER_KEY", "CALLS_PER_PROJECT")
}  # fmt: skip


@dataclass
class Served:
    """``innkeeper serve`` in a process, one connection to it, and a picture in its store."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    project_id: str
    picture: str = ""

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._cpu = psutil.Process(self.process.pid)
        self._made = 0

    def close(self) -> None:
        self._connection.close()

    def cpu_seconds(self) -> float:
        times = self._cpu.cpu_times()
        return float(times.user + times.system)

    def settle(self) -> None:
        """Wait until it has imported, in a thread after it was ready, what only runs need."""
        before, now = -1.0, self.cpu_seconds()
        while now - before > 0.02:
            time.sleep(1)
            before, now = now, self.cpu_seconds()

    def call(self, tool: str, era: str, **arguments: object) -> dict[str, Any]:
        params: dict[str, Any] = {"name": tool, "arguments": {"project_id": self.project_id, **arguments}}
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.token}",
        }
        if era == "modern":
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            }
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        self._connection.request("POST", "/mcp", json.dumps(message), headers)
        answer = json.loads(self._connection.getresponse().read())
        found: dict[str, Any] = answer["result"]["structuredContent"]
        return found

    def download(self, era: str) -> str:
        return str(self.call("get_file", era, file_id=self.picture)["ticket"]["url"])

    def upload(self, era: str) -> str:
        self._made += 1
        sha256 = hashlib.sha256(b"%d" % self._made).hexdigest()
        asked = {"path": f"{uuid7()}.png", "size": 1000, "content_type": "image/png", "sha256": sha256}
        return str(self.call("create_upload", era, **asked)["ticket"]["url"])

    def put_picture(self) -> None:
        made = self.call(
            "create_upload", "handshake", path=f"{uuid7()}.png", size=len(PICTURE), content_type="image/png"
        )
        ticket = made["ticket"]
        parts = urlsplit(ticket["url"])
        sending = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
        sending.request("PUT", f"{parts.path}?{parts.query}", PICTURE, ticket["headers"])
        status = sending.getresponse().status
        sending.close()
        self.picture = made["id"]
        confirmed = self.call("confirm_upload", "handshake", file_id=self.picture)
        if status >= 300 or confirmed["status"] != "ready":
            raise RuntimeError(f"the picture was not stored: {status}, {confirmed['status']}")

    def round(self, ask: Callable[[str], str], era: str, requests: int) -> float:
        """CPU microseconds a ticket."""
        self._connection.close()  # it has been idle for too long, and opens again by itself
        for _ in range(max(20, requests // 10)):
            ask(era)
        began = self.cpu_seconds()
        for _ in range(requests):
            if not ask(era).startswith("http"):
                raise RuntimeError("no ticket")
        return (self.cpu_seconds() - began) / requests * 1e6


@contextmanager
def served(environ: dict[str, str], token: str, project_id: str) -> Iterator[Served]:
    with bind("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, ROOT, "serve", "--port", str(port)],
        env={"PATH": os.defpath, **UNLIMITED, **environ, "INNKEEPER_PUBLIC_URL": f"http://127.0.0.1:{port}"},
        stderr=subprocess.PIPE,
    )
    try:
        if process.stderr is None:
            raise RuntimeError("no pipe")
        while b"ready: " not in (line := process.stderr.readline()):
            if not line:
                raise RuntimeError("the server did not start")
        # Its log is read to the end of the measurement by nobody: it must not fill the pipe.
        house = Served(process, port, token, project_id)
        with contextlib.closing(house):
            house.put_picture()
            house.settle()
            yield house
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def _prepared(data: Path) -> tuple[EmbeddedPostgres, dict[str, str], str, str]:
    """A migrated database, how to reach it, and a key and a project in it."""
    running = await EmbeddedPostgres.start(data, progress=lambda _line: None, fast_unsafe=True)
    await runner.upgrade(running.owner_url)
    owner = await asyncpg.connect(running.owner_url)
    user_id = await accounts.create_user(owner, "bench@example.test", "bench")
    project_id = uuid7()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'bench', $2)", project_id, user_id)
    _key, token = await accounts.create_key(owner, user_id, scopes=None)
    await owner.close()
    urls = {
        "DATABASE_URL": running.url("innkeeper", "innkeeper_app"),
        "DATABASE_OPS_URL": running.url("innkeeper", "innkeeper_ops"),
        "INNKEEPER_ROOT_SECRET": "a root secret that only a bench has, 0123456789",
        "INNKEEPER_LOG_LEVEL": "warning",
    }
    return running, urls, token, str(project_id)


def measure(requests: int, rounds: int) -> dict[tuple[str, str, str], list[float]]:
    """CPU microseconds of each round, by store, kind of ticket and era."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    with asyncio.Runner() as loop, ExitStack() as stack:
        running, urls, token, project_id = loop.run(_prepared(stack.enter_context(open_folder())))
        stack.callback(lambda: loop.run(running.stop()))
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix="files-"))
        s3 = stack.enter_context(weed())
        s3.make_bucket("innkeeper-bench")
        houses = {
            "local": stack.enter_context(served({**urls, "INNKEEPER_FILES_DIR": disk}, token, project_id)),
            "s3": stack.enter_context(served({**urls, **s3.environ("innkeeper-bench")}, token, project_id)),
        }
        for _ in range(rounds):
            for era in ERAS:
                for store, house in houses.items():
                    for kind, ask in (("download", house.download), ("upload", house.upload)):
                        taken.setdefault((store, kind, era), []).append(house.round(ask, era, requests))
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU microseconds of a ticket through /mcp")
    parser.add_argument("--requests", type=int, default=1000, help="requests a round, at most 20000")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, at most 20")
    options = parser.parse_args()
    taken = measure(min(options.requests, 20_000), min(options.rounds, 20))
    results = {what: statistics.median(values) for what, values in taken.items()}
    print("| store | ticket | era | CPU us | a second of one core | at least |")
    print("|---|---|---|---|---|---|")
    for (store, kind, era), cpu in results.items():
        print(f"| {store} | {kind} | {era} | {cpu:.0f} | {1e6 / cpu:.0f} | {BARS[store]:.0f} |")
    holds = all(1e6 / cpu >= BARS[store] for (store, _kind, _era), cpu in results.items())
    print(f"STO-05: {'holds' if holds else 'DOES NOT HOLD'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
