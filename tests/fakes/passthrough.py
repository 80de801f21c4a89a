"""The fastest honest way from a model to a client: bytes in, bytes out. The baseline our own streams are held against.

By hand: ``python -m tests.fakes.passthrough --upstream http://127.0.0.1:9000/v1 --port 9001``.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
from starlette.types import Receive, Scope, Send

from tests.fakes.sockets import on_socket, say_ready

KEPT = ("content-type", "authorization", "accept")


@asynccontextmanager
async def passthrough(upstream: str, port: int = 0) -> AsyncIterator[str]:
    """Forward every POST to ``upstream`` (a base URL ending in ``/v1``); gives the same base URL on this side."""
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            headers = {name.decode(): value.decode() for name, value in scope["headers"] if name.decode() in KEPT}
            url = upstream.removesuffix("/v1") + scope["path"]
            async with client.stream(scope["method"], url, content=body, headers=headers) as response:
                kind = response.headers.get("content-type", "text/event-stream").encode()
                start = {"type": "http.response.start", "status": response.status_code}
                await send(start | {"headers": [(b"content-type", kind)]})
                async for data in response.aiter_raw():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async with on_socket(app, port) as url:
            yield f"{url}/v1"


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A raw pass-through of a model's stream.")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    async with passthrough(options.upstream, options.port) as base_url:
        say_ready(base_url=base_url)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
