"""An embedding model behind OpenAI's wire, on a real socket: words of one concept point the same way."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.sockets import on_socket

CONCEPTS: Final[Mapping[str, str]] = {
    "money": "price prices pricing cost costs plan billing invoice fee subscription",
    "drawing": "chart bars graph plot diagram histogram",
    "dates": "calendar day days month schedule appointment",
}


@dataclass
class ScriptedEmbeddings:
    """``status``: what it answers instead of vectors. ``asked``: model and texts of each request. ``keys``: their
    authorization."""

    url: str = ""
    status: int = 200
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append((body["model"], body["input"]))
        self.keys.append(request.headers.get("authorization", ""))
        if self.status != 200:
            return JSONResponse({"error": {"message": "no"}}, status_code=self.status)
        data = [
            {"object": "embedding", "index": number, "embedding": vector(text)}
            for number, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": usage})


def vector(text: str) -> list[float]:
    """How often a text names each concept, and a little of nothing in particular."""
    words = re.findall(r"[a-z]+", text.lower())
    return [*(float(sum(word in concept.split() for word in words)) for concept in CONCEPTS.values()), 0.1]


@asynccontextmanager
async def scripted_embeddings() -> AsyncIterator[ScriptedEmbeddings]:
    """One on a socket of this machine; ``url`` is what OpenAI calls its base URL."""
    made = ScriptedEmbeddings()
    app = Starlette(routes=[Route("/v1/embeddings", made.answer, methods=["POST"])])
    async with on_socket(app) as address:
        made.url = f"{address}/v1"
        yield made
