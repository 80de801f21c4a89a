"""A model server that speaks Anthropic's Messages API as a stream, for programs that bring a model's client along.

Each request that offers the tool named in ``calls`` next gets that call for an answer, every other one a word of text.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.sockets import on_socket

Before = Callable[[], Awaitable[None]]


@dataclass
class ScriptedMessages:
    """``calls``: tools to call, in this order, each with its arguments and what happens just before it is answered.
    ``results``: what came back of them, as text."""

    base_url: str = ""
    calls: list[tuple[str, dict[str, Any], Before]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    async def messages(self, request: Request) -> Response:
        asked = await request.json()
        last = asked["messages"][-1]["content"]
        if isinstance(last, list):
            self.results += [json.dumps(part) for part in last if part.get("type") == "tool_result"]
        offered = {tool["name"] for tool in asked.get("tools", [])}
        block: dict[str, Any] = {"type": "text", "text": "done"}
        if self.calls and self.calls[0][0] in offered:
            name, arguments, before = self.calls.pop(0)
            await before()
            block = {"type": "tool_use", "id": f"toolu_{len(self.results)}", "name": name, "input": arguments}
        if not asked.get("stream"):
            return JSONResponse(_message(asked, [block]))
        return StreamingResponse(_events(asked, block), media_type="text/event-stream")


@asynccontextmanager
async def scripted_messages() -> AsyncIterator[ScriptedMessages]:
    model = ScriptedMessages()

    async def count(_request: Request) -> Response:
        return JSONResponse({"input_tokens": 1})

    routes = [
        Route("/v1/messages", model.messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", count, methods=["POST"]),
    ]
    async with on_socket(Starlette(routes=routes)) as url:
        model.base_url = url
        yield model


def _message(asked: dict[str, Any], content: list[dict[str, Any]]) -> dict[str, Any]:
    calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": content,
        "stop_reason": ("tool_use" if calls else "end_turn") if content else None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


async def _events(asked: dict[str, Any], block: dict[str, Any]) -> AsyncIterator[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    whole = _message(asked, [block])
    yield event("message_start", message=_message(asked, []))
    if block["type"] == "text":
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": block["text"]})
    else:
        yield event("content_block_start", index=0, content_block={**block, "input": {}})
        partial = json.dumps(block["input"])
        yield event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": partial})
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": 1})
    yield event("message_stop")
