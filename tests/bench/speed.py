"""The speed of ``/mcp`` in one table with its peers, all measured in the same run (MCP-21 to MCP-24).

    python -m tests.bench.speed [--requests 1000] [--rounds 7] [--projects 100000] [--streams 1000] [--write FILE]

Each server runs alone in a process, on uvloop and httptools; a client on the same core sends requests over one
kept-alive connection, of different lengths where there is something to say. What counts is CPU time of the serving
process, not wall time, and the quotient of two servers whose rounds alternate: other work on the machine then hits both
alike. Prints Markdown; ``--write`` puts it into a file. Exits 1 when a bar is not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import socket
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from uuid import UUID

import asyncpg

from db import accounts
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from db.tokens import new_token
from migrations import runner
from tests.bench.measuring import MODERN, Asked, Report, Server, alternating, asked, on_wire, one_core, quotient
from tests.db.clusters import open_folder
from tools.pages import to_cursor

HANDSHAKE = "2025-11-25"
ERAS = {"handshake": HANDSHAKE, "modern": MODERN}
TEXTS = ["hello from the bench" * repeated for repeated in range(1, 9)]
"""No two requests in a row are equal, and none is as long as the one before."""
OURS, FLOOR = "innkeeper", "starlette"
SHOWN = {
    OURS: "Innkeeper, whole application, authenticated", "sdk": "SDK low-level, stateless, open",
    "fastmcp": "fastmcp, stateless, open", FLOOR: "bare Starlette, JSON in and out, open",
}  # fmt: skip


def calls(report: Report, requests: int, rounds: int, names: Sequence[str] = tuple(SHOWN), bar: float = 0.8) -> None:
    """MCP-21: a tool that needs no database, beside its peers ``names``."""
    token = new_token()
    with one_core(), ExitStack() as stack:
        peers = [stack.enter_context(Server(name, {"BENCH_TOKEN": token})) for name in names]
        taken: dict[str, dict[str, list[float]]] = {}
        for era, version in ERAS.items():
            work = {}
            for peer in peers:
                mine = token if peer.name == OURS else None
                some = [asked(version, "tools/call", {"name": "echo", "arguments": {"text": t}}, mine) for t in TEXTS]
                if any(text.encode() not in peer.call(one) for one, text in zip(some, TEXTS, strict=True)):
                    raise RuntimeError(f"{peer.name} did not say it")
                work[peer.name] = partial(peer.cpu, some)
            taken[era] = alternating(work, requests, rounds)
    report.lines += ["", "## tools/call without a database", ""]
    report.lines += [
        "| server | handshake, CPU us | of Starlette | modern, CPU us | of Starlette |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        columns = [
            f"{statistics.median(taken[era][name]):.0f} | {quotient(taken[era], FLOOR, name):.2f}" for era in ERAS
        ]
        report.lines.append(f"| {SHOWN[name]} | {' | '.join(columns)} |")
    report.lines.append("")
    for era in ERAS:
        report.bar("MCP-21", f"of bare Starlette, {era} era:", quotient(taken[era], FLOOR, OURS), bar, least=True)


def lists(report: Report, requests: int, rounds: int) -> None:
    """MCP-23, first half: the listing."""
    token = new_token()
    with one_core(), ExitStack() as stack:
        few, many = (stack.enter_context(Server(name, {"BENCH_TOKEN": token})) for name in ("tools_10", "tools_200"))
        report.lines += [
            "",
            "## tools/list",
            "",
            "| era | 10 tools, CPU us | 200 tools, CPU us | 200 to 10 |",
            "|---|---|---|---|",
        ]
        results = []
        for era, version in ERAS.items():
            one = asked(version, "tools/list", {}, token)
            work = {server.name: partial(server.cpu, [one]) for server in (few, many)}
            taken = alternating(work, requests, rounds)
            results.append((era, quotient(taken, many.name, few.name)))
            medians = [f"{statistics.median(taken[server.name]):.0f}" for server in (few, many)]
            report.lines.append(f"| {era} | {medians[0]} | {medians[1]} | {results[-1][1]:.2f} |")
        report.lines.append("")
        for era, value in results:
            report.bar("MCP-23", f"tools/list at 200 tools to 10, {era} era:", value, 2, least=False)


@dataclass(frozen=True)
class Rows:
    app_url: str
    superuser_url: str
    project_ids: list[UUID]
    few: str
    many: str
    middle: str


async def furnish(cluster: EmbeddedPostgres, projects: int) -> Rows:
    """A user with 10 projects and one with ``projects``."""
    await runner.upgrade(cluster.owner_url)
    owner = await asyncpg.connect(cluster.owner_url)
    tokens: list[str] = []
    ids: list[UUID] = []
    try:
        for count in (10, projects):
            user_id = await accounts.create_user(owner, f"{count}@example.test", str(count))
            ids = [uuid7() for _ in range(count)]
            await owner.execute(
                "INSERT INTO projects (id, name, created_by)"
                " SELECT id, 'Project ' || number, $2 FROM unnest($1::uuid[]) WITH ORDINALITY AS new (id, number)",
                *(ids, user_id),
            )
            tokens.append((await accounts.create_key(owner, user_id))[1])
        await owner.execute("ANALYZE")
    finally:
        await owner.close()
    superuser = cluster.url("innkeeper", "postgres")
    few, many = tokens
    app = cluster.url("innkeeper", "innkeeper_app")
    return Rows(app, superuser, ids[: len(TEXTS)], few, many, to_cursor(ids[projects // 2]))


def rows(report: Report, requests: int, rounds: int, projects: int) -> None:
    """MCP-22, and the second half of MCP-23."""
    with open_folder() as data, asyncio.Runner() as loop:
        cluster = loop.run(EmbeddedPostgres.start(data, progress=lambda _line: None, fast_unsafe=True))
        try:
            _rows(report, loop.run(furnish(cluster, projects)), requests, rounds, projects)
        finally:
            loop.run(cluster.stop())


def _rows(report: Report, known: Rows, requests: int, rounds: int, projects: int) -> None:
    with one_core(), ExitStack() as stack:
        ours = stack.enter_context(Server("innkeeper_rows", {"BENCH_DATABASE_URL": known.app_url}))
        floor = stack.enter_context(Server("starlette_rows", {"BENCH_DATABASE_URL": known.superuser_url}))
        report.lines += ["", "## get_project under row-level security", ""]
        report.lines += [
            "| era | Innkeeper, CPU us | bare Starlette, raw asyncpg, no policies, CPU us | of Starlette |",
            "|---|---|---|---|",
        ]
        results = []
        for era, version in ERAS.items():
            params = [{"name": "get_project", "arguments": {"project_id": str(one)}} for one in known.project_ids]
            work = {
                server.name: partial(server.cpu, [asked(version, "tools/call", one, token) for one in params])
                for server, token in ((ours, known.many), (floor, None))
            }
            taken = alternating(work, requests, rounds)
            results.append((era, quotient(taken, floor.name, ours.name)))
            medians = [f"{statistics.median(taken[server.name]):.0f}" for server in (ours, floor)]
            report.lines.append(f"| {era} | {medians[0]} | {medians[1]} | {results[-1][1]:.2f} |")
        report.lines.append("")
        for era, value in results:
            report.bar("MCP-22", f"get_project of bare Starlette, {era} era:", value, 0.65, least=True)
        report.lines += ["", "## list_projects, pages of 10 rows", ""]
        pages = {
            "10 projects": (known.few, {}),
            f"{projects} projects, first page": (known.many, {}),
            f"{projects} projects, from the middle": (known.many, {"cursor": known.middle}),
        }
        work = {}
        for name, (token, arguments) in pages.items():
            one = asked(
                HANDSHAKE, "tools/call", {"name": "list_projects", "arguments": {"limit": 10, **arguments}}, token
            )
            work[name] = partial(wall, ours, one)
        taken = alternating(work, max(requests // 5, 20), rounds)
        report.lines += ["| of | milliseconds, as the client waits |", "|---|---|"]
        report.lines += [f"| {name} | {statistics.median(taken[name]):.2f} |" for name in pages]
        report.lines.append("")
        first, *others = pages
        for name in others:
            report.bar("MCP-23", f"{name}, to 10 projects:", quotient(taken, name, first), 1.5, least=False)


def wall(server: Server, one: Asked, requests: int) -> float:
    """Milliseconds a request takes, the database's work with it; the median, because the machine has other work."""
    taken = []
    for _ in range(requests):
        began = perf_counter()
        server.call(one)
        taken.append((perf_counter() - began) * 1000)
    return statistics.median(taken)


def streams(report: Report, count: int) -> None:
    """MCP-24: calls of a tool that takes long, each with its open event stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    token = new_token()
    params = {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}
    with Server("streams", {"BENCH_TOKEN": token}) as server, ExitStack() as stack:
        request = on_wire(asked(HANDSHAKE, "tools/call", params, token), server.port)
        for _ in range(20):
            stack.enter_context(_open(server.port, request))
        before = server.number("/-/memory")
        for _ in range(count):
            stack.enter_context(_open(server.port, request))
        after = server.number("/-/memory")
    report.lines += ["", "## Open event streams", ""]
    report.bar("MCP-24", f"kilobytes a stream, {count} open:", (after - before) / count / 1024, 40, least=False)


def _open(port: int, request: bytes) -> socket.socket:
    """A connection on which the first event has come."""
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(request)
    got = b""
    while b"notifications/progress" not in got:
        more = one.recv(4096)
        got += more
        if not more or not b"HTTP/1.1 200".startswith(got[:12]):
            one.close()
            raise RuntimeError(f"no stream but {got[:400]!r}")
    return one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--projects", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--only", choices=("calls", "lists", "rows", "streams"))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    report = Report()
    parts: dict[str, Callable[[], None]] = {
        "calls": lambda: calls(report, options.requests, options.rounds),
        "lists": lambda: lists(report, options.requests, options.rounds),
        "rows": lambda: rows(report, options.requests, options.rounds, options.projects),
        "streams": lambda: streams(report, options.streams),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part()
    text = "\n".join([*preface(), *report.lines, ""])
    print(text)
    if options.write is not None:
        options.write.write_text(text, encoding="utf-8")
    return 1 if report.fallen else 0


def preface() -> list[str]:
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.system()}, CPython {platform.python_version()}"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        "# Speed",
        "",
        f"Made by `python -m tests.bench.speed` on {day} ({machine}, load {load}).",
        "What counts are the quotients: CPU time of the serving process, rounds alternating, in one run.",
        "On another machine the microseconds differ. Client and server share one core, and of the texts that are sent",
        "and ids that are asked for no two in a row are equal.",
        "Innkeeper runs with its production uvicorn protocol class, the peers with uvicorn's own; all have start-up's",
        "objects frozen out of garbage collection, as in production. Limits count too; nobody reaches them.",
    ]


if __name__ == "__main__":
    sys.exit(main())
