"""Servers in processes of their own, what requests cost them in CPU time, and the report of it."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Self

MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}


@dataclass(frozen=True)
class Asked:
    headers: dict[str, str]
    body: bytes


def asked(version: str, method: str, params: dict[str, Any], token: str | None = None) -> Asked:
    """A request as a real client of that revision sends it."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": version,
    }
    if version == MODERN:
        params = {**params, "_meta": ENVELOPE}
        headers["Mcp-Method"] = method
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return Asked(headers, json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode())


@dataclass
class Server:
    """A server in a process of its own, and one connection to it: a plain socket, so that the client costs little."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(  # our own module, our own interpreter
            [sys.executable, "-m", "tests.bench.speed_server", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self.environment},
        )
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        self.port = int(self.process.stdout.readline().strip())
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def number(self, path: str) -> int:
        return int(self._exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))

    def call(self, one: Asked) -> bytes:
        return self._exchange(on_wire(one, self.port))

    def _exchange(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        got = self.socket.recv(65536)
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        missing = int(fields[b"content-length"]) - len(body)
        parts = [body]
        while missing > 0:
            parts.append(self.socket.recv(min(missing, 1 << 20)))
            missing -= len(parts[-1])
        body = b"".join(parts)
        if not head.startswith(b"HTTP/1.1 200") or b'"isError":true' in body or b'"error":{' in body:
            raise RuntimeError(f"{self.name} answered {head[:40]!r}: {body[:300]!r}")
        return body

    def cpu(self, some: Sequence[Asked], requests: int) -> float:
        """CPU microseconds a request, one after the other out of ``some``."""
        wired = cycle([on_wire(one, self.port) for one in some])
        for request in islice(wired, max(10, requests // 10)):
            self._exchange(request)
        began = self.number("/-/cpu")
        for request in islice(wired, requests):
            self._exchange(request)
        return (self.number("/-/cpu") - began) / requests / 1000


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and the servers that are started meanwhile, on one core where the system lets us choose.

    Left to itself the scheduler puts a server and its only client beside each other in one round and apart in the next;
    apart, a server wakes with cold caches for each request, and a request costs it two to four times as much.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def on_wire(one: Asked, port: int) -> bytes:
    lines = [f"{name}: {value}" for name, value in {**one.headers, "Content-Length": str(len(one.body))}.items()]
    return (f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + one.body


def alternating(work: Mapping[str, Callable[[int], float]], requests: int, rounds: int) -> dict[str, list[float]]:
    """What each measured, round by round."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, measure in work.items():
            taken[name].append(measure(requests))
    return taken


def quotient(taken: dict[str, list[float]], over: str, under: str) -> float:
    """The median of the quotients of rounds that ran next to each other."""
    return statistics.median(a / b for a, b in zip(taken[over], taken[under], strict=True))


@dataclass
class Report:
    lines: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)

    def bar(self, claim: str, what: str, value: float, bar: float, *, least: bool) -> None:
        holds = value >= bar if least else value <= bar
        word = "at least" if least else "at most"
        self.lines.append(
            f"- {claim}: {what} **{value:.2f}** ({word} {bar:g}): {'holds' if holds else 'DOES NOT HOLD'}"
        )
        if not holds:
            self.fallen.append(claim)
