"""A scripted model behind the OpenAI wire, on a real socket: chat completions, Responses, the list of models.

In a test::

    async with scripted_model() as model:
        model.script(Turn("Hi."))
        ... ModelSpec("openai-chat:scripted", base_url=model.base_url)
        assert model.requests[0].tools == ["list_projects"]

By hand, or for a benchmark: ``python -m tests.fakes.openai_server --port 9000 --tokens-per-second 50``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.fakes import openai_wire
from tests.fakes.script import Answer, Gate, Hang, Moment, Raw, Reset, Status, Turn, asked, unscripted
from tests.fakes.sockets import on_socket, say_ready


@dataclass(frozen=True)
class Recorded:
    """One request as it came. ``tools``: the names offered to the model."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def tools(self) -> list[str]:
        offered = self.body.get("tools") or []
        return sorted(tool.get("function", tool).get("name", tool.get("type", "")) for tool in offered)

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


class _Play:
    def __init__(self, answers: Sequence[Answer | tuple[Answer, ...]]) -> None:
        self._steps = [deque(answer if isinstance(answer, tuple) else (answer,)) for answer in answers]

    def answer(self, step: int) -> Answer:
        left = self._steps[min(step, len(self._steps) - 1)]
        return left.popleft() if len(left) > 1 else left[0]


class ScriptedModel:
    """The ASGI application; ``base_url`` is set once it listens."""

    def __init__(self, tokens_per_second: float | None = None) -> None:
        self.base_url = ""
        self.requests: list[Recorded] = []
        self.disconnected = asyncio.Event()  # a client went away before its answer was whole
        self._pause = 1 / tokens_per_second if tokens_per_second else 0.0
        # Instead of the script, by what is asked.
        self.answering: Callable[[dict[str, Any]], Answer | None] | None = None
        # Hears of each request before it is answered.
        self.watch: Callable[[dict[str, Any]], Awaitable[None]] | None = None
        self._script: deque[Answer] = deque()
        self._plays: dict[str, _Play] = {}
        self._arrived = asyncio.Condition()

    def script(self, *answers: Answer) -> None:
        """Queue answers, one a request; when they are used up, :func:`tests.fakes.script.unscripted` answers."""
        self._script.extend(answers)

    def play(self, said: str, *answers: Answer | tuple[Answer, ...]) -> None:
        """What is answered, step by step, to whoever is asked by exactly this user message, whatever else is going on.
        A tuple: each time the same step is asked for, the next of it; its last one from then on."""
        self._plays[said] = _Play(answers)

    def forget(self) -> None:
        """Begin anew: no requests so far, nothing queued."""
        self.requests.clear()
        self._script.clear()

    async def requested(self, number: int = 1, timeout: float = 60) -> Recorded:
        """Wait until that many requests have come, and give the last of them."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/models"):
            data = [{"id": "scripted", "object": "model", "created": 0, "owned_by": "tests"}]
            return await _json(send, 200, {"object": "list", "data": data})
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = json.loads(await _body(receive))
        async with self._arrived:
            self.requests.append(Recorded(scope["path"], headers, body))
            self._arrived.notify_all()
        if self.watch is not None:
            await self.watch(body)
        answer = (self.answering(body) if self.answering else None) or self._next(body)
        if isinstance(answer, Status):
            return await _json(send, answer.status, answer.body, answer.headers)
        wire: openai_wire.Wire
        if scope["path"].endswith("/responses"):
            wire = openai_wire.Responses(body, answer)
        else:
            wire = openai_wire.ChatCompletions(body, answer)
        await self._answer(wire, answer, receive, send, stream=bool(body.get("stream")))
        return None

    def _next(self, body: dict[str, Any]) -> Answer:
        said, step = asked(body)
        if said in self._plays:
            return self._plays[said].answer(step)
        return self._script.popleft() if self._script else unscripted(body)

    async def _answer(self, wire: openai_wire.Wire, turn: Turn, receive: Receive, send: Send, *, stream: bool) -> None:
        gone = asyncio.create_task(_disconnect(receive))
        speaking = asyncio.create_task(self._speak(wire, turn, send) if stream else self._whole(wire, turn, send))
        try:
            await asyncio.wait([gone, speaking], return_when=asyncio.FIRST_COMPLETED)
            if not speaking.done():
                self.disconnected.set()
                speaking.cancel()
            await asyncio.wait([speaking])
            if not speaking.cancelled():
                speaking.result()
        finally:
            gone.cancel()
            speaking.cancel()

    async def _speak(self, wire: openai_wire.Wire, turn: Turn, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await _chunk(send, wire.begin())
        numbers = count()
        loop = asyncio.get_running_loop()
        due = loop.time()
        for step in turn.steps:
            match step:
                case Gate():
                    await step.passed()
                case Raw():
                    await _chunk(send, step.data)
                case Reset():
                    raise ConnectionResetError("scripted")
                case Hang():
                    await asyncio.Event().wait()
                case _:
                    due += self._pause
                    if (early := due - loop.time()) > 0:
                        await asyncio.sleep(early)
                    said = step.text if isinstance(step, Moment) else step
                    for data in wire.step(next(numbers), said):
                        await _chunk(send, data)
        await _chunk(send, wire.end())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, wire: openai_wire.Wire, turn: Turn, send: Send) -> None:
        for step in turn.steps:
            if isinstance(step, Gate):
                await step.passed()
            elif isinstance(step, Reset):
                raise ConnectionResetError("scripted")
            elif isinstance(step, Hang):
                await asyncio.Event().wait()
        await _json(send, 200, wire.whole())


@asynccontextmanager
async def scripted_model(tokens_per_second: float | None = None, port: int = 0) -> AsyncIterator[ScriptedModel]:
    """A scripted model that listens on loopback; its ``base_url`` ends in ``/v1``."""
    model = ScriptedModel(tokens_per_second)
    async with on_socket(model, port) as url:
        model.base_url = f"{url}/v1"
        yield model


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body or b"{}"


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _chunk(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _json(send: Send, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
    text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    fields = [(b"content-type", b"application/json")]
    fields += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": text})


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model behind the OpenAI wire.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens-per-second", type=float, default=None)
    options = parser.parse_args()
    async with scripted_model(options.tokens_per_second, options.port) as model:
        say_ready(base_url=model.base_url)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
