"""One of the servers that ``mcp_overhead`` compares, alone in its process: ``python -m tests.bench.echo_server NAME``.

Prints its port, then serves until its input ends. ``GET /-/cpu`` answers the CPU nanoseconds the process has used.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, cast

import uvicorn
import uvloop
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from db.budgets import Budget
from db.credentials import Authenticator
from db.ids import uuid7
from db.principal import Principal
from db.scopes import ALL_SCOPES
from db.scopes import Scope as AccessScope
from db.tokens import new_token
from server import logs
from server.app import create_app
from server.http.one_write import OneWriteProtocol
from server.limits.limits import Limits
from server.limits.rules import KEY, Rules, Share
from tests.prompt_server import PromptServer
from tests.server.edge_services import EdgeServices, NoDatabase
from tools.catalog import Catalog
from tools.contract import Caller, tool
from tools.dispatch import Dispatch
from tools.ports import NoRuns, Services

ENDLESS = Share(Budget(1e9, 1e9), KEY[1], streams=100_000)
"""A budget and streams that no bench uses up, and production's places for calls."""
TOKEN = os.environ.get("BENCH_TOKEN") or new_token()


class Echo(BaseModel):
    said: str


@tool(AccessScope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
async def echo(call: Caller, text: Annotated[str, Field(max_length=1000, description="What to say.")]) -> Echo:
    """Say it again."""
    return Echo(said=text)


class OneKey:
    """The database as the authenticator sees it: it knows one key, and the process hears of revocations."""

    def __init__(self) -> None:
        self.listener = self
        self.listening = True
        self._row = {
            "credential_id": uuid7(), "user_id": uuid7(), "project_id": None, "end_user_id": None,
            "scopes": sorted(ALL_SCOPES), "kind": "secret", "read_only": False, "expires_at": None, "audience": None,
            "project_ids": None, "origins": None,
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def system(self) -> AsyncIterator[OneKey]:
        yield self

    async def fetchrow(self, query: str, *arguments: object) -> dict[str, Any]:
        return self._row


class OnlyCounted(Limits):
    """The limits of production without the database that budgets are leased from."""

    def __init__(self) -> None:
        super().__init__(cast("Any", NoDatabase()), Rules(ENDLESS, ENDLESS))

    async def admit(self, principal: Principal) -> None:
        """Once for each key: from then on its slice has enough."""
        if principal.credential_id.int not in self.keys.known:
            allowance = self.keys.allowance(principal.credential_id)
            assert allowance is not None
            allowance.left = 10**9
        await super().admit(principal)


def innkeeper() -> ASGIApp:
    """The whole application: front door, guards, authentication, limits, dispatch, JSON access log."""
    logs.configure("json", stream=Path(os.devnull).open("w"))  # noqa: SIM115  open as long as the process
    catalog = Catalog([echo])
    dispatch = Dispatch(Services(cast("Any", NoDatabase()), NoRuns(), limits=OnlyCounted()), catalog)
    authenticator = Authenticator(cast("Any", OneKey()))
    return create_app(cast("Any", EdgeServices(catalog, dispatch, cast("Any", authenticator))))


def sdk() -> ASGIApp:
    """The SDK's own low-level server as fast as its options make it: stateless, JSON, no span, schemas at hand."""
    from mcp.server.lowlevel import Server
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

    listed = Tool(
        name="echo", description="Say it again.", input_schema=echo.input_schema, output_schema=echo.output_schema
    )

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[listed])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        said = (params.arguments or {})["text"]
        text = TextContent(type="text", text=json.dumps({"said": said}))
        return CallToolResult(content=[text], structured_content={"said": said})

    server: Server[Any] = Server(
        "echo", on_list_tools=list_tools, on_call_tool=call_tool, get_tool_input_schema=lambda name: echo.input_schema
    )
    server.middleware.clear()
    return server.streamable_http_app(stateless_http=True, json_response=True)


def starlette() -> ASGIApp:
    """The floor: parse JSON-RPC, answer; no protocol, no authentication."""

    async def answer(request: Request) -> JSONResponse:
        message = await request.json()
        said = message["params"]["arguments"]["text"]
        content = [{"type": "text", "text": json.dumps({"said": said})}]
        result = {"content": content, "structuredContent": {"said": said}, "isError": False}
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    return Starlette(routes=[Route("/mcp", answer, methods=["POST"])])


PEERS = ("sdk", "starlette", "fastmcp", "starlette_rows")
SERVERS = {"innkeeper": innkeeper, "sdk": sdk, "starlette": starlette}


def with_cpu_clock(app: ASGIApp) -> ASGIApp:
    async def clocked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/-/cpu":
            await app(scope, receive, send)
            return
        body = str(time.process_time_ns()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return clocked


async def serve(name: str) -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        with_cpu_clock(SERVERS[name]()),
        http="httptools" if name in PEERS else OneWriteProtocol,  # ours as production runs it, peers as they come
        ws="none",
        log_config=None,
        access_log=False,
        server_header=name in PEERS,
        timeout_keep_alive=600,
    )
    server = PromptServer(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    await server.listening.wait()
    # As server.process does, and for the peers too: no collection looks at what start-up made.
    gc.collect()
    gc.freeze()
    print(bound.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.end()
    await serving


if __name__ == "__main__":
    logging.disable(logging.DEBUG)
    uvloop.run(serve(sys.argv[1]))
