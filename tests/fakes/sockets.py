"""Runs an ASGI application on a real socket inside the running event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from tests.prompt_server import PromptServer

logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # faults of the fakes are scripted


@asynccontextmanager
async def on_socket(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serve ``app`` on 127.0.0.1 and give its URL; connections still open at the end are cut."""
    # Named as TCP, or asyncio leaves Nagle's algorithm on and some small writes wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = PromptServer(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(60):
            await server.listening.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for task in list(server.server_state.tasks):
            task.cancel()
        server.end(at_once=True)
        await serving
        listener.close()


def say_ready(**where: str) -> None:
    """Tell whoever started this process where it listens. No collection looks at what start-up made, as in the house:
    one of 50 ms in a fake would be measured as the house's."""
    gc.collect()
    gc.freeze()
    print(json.dumps(where), flush=True)
