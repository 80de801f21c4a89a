"""A web server of somebody else: a built registry, or a forge's raw files, that change and fail on command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.fakes.sockets import on_socket


@dataclass
class Forge:
    """``files``: what it serves, by path. ``statuses``: what it answers instead. ``asked``: the paths that were asked
    for. ``most``: how many requests it had at a time. ``made``: serves what is in no file."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: Callable[[str], bytes | None] = lambda _path: None
    going: int = 0
    most: int = 0

    def serve(self, path: str, value: Any) -> None:
        self.files[path] = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.asked.append(path)
        self.going += 1
        self.most = max(self.most, self.going)
        try:
            await asyncio.sleep(0)
            if self.statuses.get(path):
                return Response(status_code=self.statuses[path].pop(0))
            data = self.files.get(path) or self.made(path)
            return Response(status_code=404) if data is None else Response(data, media_type="text/plain")
        finally:
            self.going -= 1


@asynccontextmanager
async def forge() -> AsyncIterator[Forge]:
    """One on a socket of this machine."""
    made = Forge()
    async with on_socket(Starlette(routes=[Route("/{path:path}", made.answer)])) as made.url:
        yield made
