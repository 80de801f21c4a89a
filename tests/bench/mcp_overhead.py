"""What a tool call costs before any tool or database: CPU microseconds a request, ours against its peers (HOME-50).

    python -m tests.bench.mcp_overhead [--requests 2000] [--rounds 5]

Each server runs alone in a process, on uvloop and httptools; one client sends the same ``tools/call`` of an echo tool
over one kept-alive connection. CPU time of the serving process is counted, not wall time, so other work on the
machine matters little; the rounds of all servers alternate, and the median of each counts. Ours is the whole
application with authentication by bearer key and the access log on; the SDK's is its low-level server, stateless,
JSON answers, without authentication. Exits 1 when ours reaches less than 0.9 of the SDK's throughput in an era.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from db.tokens import new_token

BAR = 0.9
MODERN = "2026-07-28"
ERAS = ("handshake", "modern")


def request_of(era: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the call a real client of that era sends."""
    params: dict[str, object] = {"name": "echo", "arguments": {"text": "hello from the bench"}}
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    if era == "modern":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        }
        headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    else:
        headers["MCP-Protocol-Version"] = "2025-11-25"
    return headers, json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()


@dataclass
class Peer:
    """A server in a process of its own, and one connection to it."""

    name: str
    token: str

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(  # our own module, our own interpreter
            [sys.executable, "-m", "tests.bench.echo_server", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BENCH_TOKEN": self.token},
        )
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        port = self.process.stdout.readline().strip()
        self.connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def cpu_ns(self) -> int:
        self.connection.request("GET", "/-/cpu")
        return int(self.connection.getresponse().read())

    def call(self, headers: dict[str, str], body: bytes) -> bytes:
        self.connection.request("POST", "/mcp", body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200 or b'"said":' not in content.replace(b"\\", b""):
            raise RuntimeError(f"{self.name} answered {answer.status}: {content[:300]!r}")
        return content

    def round(self, era: str, requests: int) -> float:
        """CPU microseconds a request."""
        headers, body = request_of(era)
        if self.name == "innkeeper":
            headers["Authorization"] = f"Bearer {self.token}"
        for _ in range(max(20, requests // 10)):
            self.call(headers, body)
        began = self.cpu_ns()
        for _ in range(requests):
            self.call(headers, body)
        return (self.cpu_ns() - began) / requests / 1000


def measure(requests: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median CPU microseconds by era and server."""
    token = new_token()
    with Peer("innkeeper", token) as ours, Peer("sdk", token) as sdk, Peer("starlette", token) as floor:
        peers = (ours, sdk, floor)
        taken: dict[str, dict[str, list[float]]] = {era: {peer.name: [] for peer in peers} for era in ERAS}
        for _ in range(rounds):
            for era in ERAS:
                for peer in peers:
                    taken[era][peer.name].append(peer.round(era, requests))
    return {era: {name: statistics.median(values) for name, values in by.items()} for era, by in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU microseconds of a tools/call, against the SDK's own server")
    parser.add_argument("--requests", type=int, default=2000, help="requests a round, at most 20000")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, at most 20")
    options = parser.parse_args()
    results = measure(min(options.requests, 20_000), min(options.rounds, 20))
    print("| era | innkeeper, authenticated | SDK low-level, open | bare Starlette | of the SDK | of Starlette |")
    print("|---|---|---|---|---|---|")
    worst = float("inf")
    for era, cpu in results.items():
        of_sdk, of_floor = cpu["sdk"] / cpu["innkeeper"], cpu["starlette"] / cpu["innkeeper"]
        worst = min(worst, of_sdk)
        columns = f"{cpu['innkeeper']:.0f} us | {cpu['sdk']:.0f} us | {cpu['starlette']:.0f} us"
        print(f"| {era} | {columns} | {of_sdk:.2f} | {of_floor:.2f} |")
    verdict = "holds" if worst >= BAR else "DOES NOT HOLD"
    print(f"HOME-50: at least {BAR} of the SDK: {verdict} (lowest {worst:.2f})")
    return 0 if worst >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
