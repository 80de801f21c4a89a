"""The servers that ``speed`` measures beside those of ``echo_server``, each alone in its process.

``python -m tests.bench.speed_server NAME``; those that read rows find their database in ``BENCH_DATABASE_URL``.
``GET /-/memory`` answers the bytes of memory that are the process's own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from db.credentials import Authenticator
from db.database import Database
from db.scopes import Scope
from server import logs
from server.app import create_app
from server.limits.limits import Limits
from server.limits.rules import Rules
from tests.bench import echo_server
from tests.bench.echo_server import ENDLESS, Echo, OneKey, OnlyCounted, echo
from tests.server.edge_services import EdgeServices, NoDatabase
from tools.catalog import CATALOG, Catalog
from tools.contract import Caller, tool
from tools.dispatch import Dispatch
from tools.ports import NoRuns, Services

COLUMNS = (
    "id, name, instructions, model, base_url, max_input_tokens, tool_call_limit, allow_prompt_override,"
    " model_parameters, created_at, updated_at"
)


@tool(
    Scope.projects_read,
    read_only=True, destructive=False, idempotent=True, open_world=False, takes_long=True,
)  # fmt: skip
async def wait(call: Caller) -> Echo:
    """Begin, and never end."""
    await call.progress(1, 2, "waiting")
    await asyncio.Event().wait()
    return Echo(said="never")


def house(catalog: Catalog, database: Any = None, authenticator: Any = None) -> ASGIApp:
    """The whole application over ``catalog``, with the access log on."""
    logs.configure("json", stream=Path(os.devnull).open("w"))  # noqa: SIM115  open as long as the process
    limits = OnlyCounted() if database is None else Limits(database, Rules(ENDLESS, ENDLESS))
    dispatch = Dispatch(Services(database or cast("Any", NoDatabase()), NoRuns(), limits=limits), catalog)
    known = authenticator or Authenticator(cast("Any", OneKey()))
    return create_app(cast("Any", EdgeServices(catalog, dispatch, cast("Any", known))))


def many(count: int) -> ASGIApp:
    return house(Catalog([replace(echo, name=f"echo_{number}") for number in range(count)]))


def fastmcp() -> ASGIApp:
    """fastmcp as fast as its options make it: stateless, JSON answers."""
    from fastmcp import FastMCP

    server: Any = FastMCP("echo")

    @server.tool(name="echo")  # type: ignore[untyped-decorator]  # the server is Any
    async def say(text: str) -> Echo:
        return Echo(said=text)

    app: ASGIApp = server.http_app(path="/mcp", stateless_http=True, json_response=True)
    return app


async def innkeeper_rows() -> ASGIApp:
    """The whole application over a real database."""
    database = await Database.open(os.environ["BENCH_DATABASE_URL"], min_size=2, max_size=8)
    await database.listener.wait()
    authenticator = Authenticator(database)
    await authenticator.start()
    return house(CATALOG, database, authenticator)


async def starlette_rows() -> ASGIApp:
    """The floor: the same SELECT in a transaction, by an account for which no policy counts; no protocol, no keys."""
    pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=2, max_size=8, reset=_keep)

    async def answer(request: Request) -> JSONResponse:
        message = await request.json()
        project_id = message["params"]["arguments"]["project_id"]
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(f"SELECT {COLUMNS} FROM projects WHERE id = $1", project_id)
        found = {**row, "id": str(row["id"])} if row else {}
        found |= {name: value.isoformat() for name, value in found.items() if name.endswith("_at")}
        content = [{"type": "text", "text": json.dumps(found)}]
        result = {"content": content, "structuredContent": found, "isError": False}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    return Starlette(routes=[Route("/mcp", answer, methods=["POST"])])


async def _keep(_connection: Any) -> None:
    """No reset between uses, as ours: it would cost the floor a round trip more."""


def with_memory(app: ASGIApp) -> ASGIApp:
    async def memory(_request: Request) -> Response:
        gc.collect()
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
        own = sum(int(line.split()[1]) for line in rollup if line.startswith(("Private_Clean", "Private_Dirty")))
        return Response(str(own * 1024))

    probe = Starlette(routes=[Route("/-/memory", memory)])

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        asked = scope["type"] == "http" and scope["path"] == "/-/memory"
        await (probe if asked else app)(scope, receive, send)

    return measured


SERVERS: dict[str, Any] = {
    **echo_server.SERVERS,
    "fastmcp": fastmcp,
    "tools_10": lambda: many(10),
    "tools_200": lambda: many(200),
    "innkeeper_rows": innkeeper_rows,
    "starlette_rows": starlette_rows,
    "streams": lambda: with_memory(house(Catalog([wait]))),
}


async def serve(name: str) -> None:
    made = SERVERS[name]()
    app = await made if asyncio.iscoroutine(made) else made
    echo_server.SERVERS[name] = lambda: app
    await echo_server.serve(name)


if __name__ == "__main__":
    logging.disable(logging.DEBUG)
    uvloop.run(serve(sys.argv[1]))
