"""A willing person at a browser, for programs that only say which address they want opened."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.sockets import on_socket
from tests.server.oauth.people import Person, hidden


async def allowed(person: Person, url: str, scopes: Sequence[str] | None = None) -> str:
    """Where the browser is sent after the person has allowed what is asked for, or only ``scopes`` of it."""
    page = await person.browser.get(url)
    answer = page if page.status_code == 303 else await person.press(page, "allow", scopes=scopes)
    return str(answer.headers["location"])


async def addresses(descriptor: int, issuer: str, log: BinaryIO) -> AsyncIterator[str]:
    """The addresses of authorization pages that a program writes to a pipe or a terminal, each once."""
    pattern = re.compile(re.escape(f"{issuer}/oauth/authorize?").encode() + rb"[^\s\x07\x1b]+(?=[\s\x07\x1b])")
    said, known = b"", set()
    while True:
        try:
            part = await asyncio.to_thread(os.read, descriptor, 65536)
        except OSError:  # a terminal whose program has ended
            return
        if not part:
            return
        log.write(part)
        log.flush()
        said += part
        for found in pattern.findall(said):
            if found not in known:
                known.add(found)
                yield found.decode()


@asynccontextmanager
async def at_the_browser(person: Person) -> AsyncIterator[str]:
    """A willing person as a service: opens the address that a program shows, and presses the button."""

    async def allow(request: Request) -> Response:
        asked = await request.json()
        return JSONResponse({"location": await allowed(person, asked["url"], asked.get("scopes"))})

    async def device(request: Request) -> Response:
        fields = {**hidden(await person.browser.get("/device")), "user_code": (await request.json())["code"]}
        page = await person.browser.post("/device", data=fields)
        done = await person.press(page, "allow")
        await person.inn.owner.execute("UPDATE oauth_devices SET polled_at = NULL")
        return JSONResponse({"page": done.status_code})

    routes = [Route("/allow", allow, methods=["POST"]), Route("/device", device, methods=["POST"])]
    async with on_socket(Starlette(routes=routes)) as url:
        yield url
