"""One pretended answer on each of OpenAI's two APIs, so that no run pays for what the first one costs.

The SDK builds its validators when it reads its first event: measured at 1.9 s for the Responses API, which would
stand still every stream of the process if it happened on the event loop.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Mapping

import httpx2
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest

from agents.openai_models import Endpoint, build

_RESPONSE: dict[str, object] = {
    "id": "warm",
    "object": "response",
    "created_at": 0,
    "model": "warm",
    "status": "completed",
    "output": [],
}
_RESPONSE |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
_PART = {"type": "output_text", "text": "", "annotations": []}
_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "status": "in_progress", "content": [_PART]}
_CALL = {"id": "f", "type": "function_call", "call_id": "c", "name": "t", "arguments": "{}", "status": "completed"}
# Older and compatible servers leave fields out; the SDK then takes another, even slower way, which this incomplete
# usage makes it go.
_DONE = _RESPONSE | {"output": [_MESSAGE, _CALL], "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}
_PLACE = {"item_id": "m", "output_index": 0, "content_index": 0}
_EVENTS: Mapping[str, list[dict[str, object]]] = {
    "openai": [
        {"type": "response.created", "response": _RESPONSE},
        {"type": "response.output_item.added", "output_index": 0, "item": _MESSAGE},
        {"type": "response.content_part.added", **_PLACE, "part": _PART},
        {"type": "response.output_text.delta", **_PLACE, "delta": "hi", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 0, "item": _MESSAGE},
        {"type": "response.output_item.added", "output_index": 1, "item": _CALL},
        {"type": "response.output_item.done", "output_index": 1, "item": _CALL},
        {"type": "response.completed", "response": _DONE},
    ],
    "openai-chat": [
        {"id": "warm", "object": "chat.completion.chunk", "created": 0, "model": "warm", "choices": [choice]}
        for choice in (
            {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
    ],
}


def warm_up(provider: str) -> None:
    """``openai`` (Responses) or ``openai-chat``. Blocks for seconds; call it in a thread without an event loop."""
    enabled = gc.isenabled()
    # Everything imported here stays. Collecting again and again meanwhile only holds the interpreter's lock.
    gc.disable()
    try:
        asyncio.run(_pretend(provider))
    finally:
        if enabled:
            gc.enable()


async def _pretend(provider: str) -> None:
    numbered = [{"sequence_number": number, **event} for number, event in enumerate(_EVENTS[provider])]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in numbered)
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answer)) as client:
        model = build(Endpoint(provider, "http://warm.invalid/v1", "warm", client), "warm", {})
        async with model_request_stream(model, [ModelRequest.user_text_prompt("hi")]) as stream:
            async for _ in stream:
                pass
