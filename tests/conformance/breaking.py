"""An ASGI wrapper that spoils requests on their way in and answers on their way out: how most defects are seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]


@dataclass
class Asked:
    """A request as the client sent it. ``message`` is its body as JSON, ``None`` when it is none."""

    method: str
    headers: Headers
    body: bytes
    query: bytes = b""
    message: Any = None

    def header(self, name: str) -> str:
        return next((value.decode() for key, value in self.headers if key == name.encode()), "")

    def put(self, name: str, value: str | None) -> None:
        """Set a header; ``None`` takes it away."""
        self.headers = [(key, old) for key, old in self.headers if key != name.encode()]
        if value is not None:
            self.headers.append((name.encode(), value.encode()))


@dataclass
class Answered:
    """An answer as the server made it."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    message: Any = None

    def put(self, name: str, value: str | None) -> None:
        self.headers = [(key, old) for key, old in self.headers if key != name.encode()]
        if value is not None:
            self.headers.append((name.encode(), value.encode()))

    @property
    def result(self) -> dict[str, Any]:
        """The JSON-RPC result, or an empty one that is nobody's."""
        found = self.message.get("result") if isinstance(self.message, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def error(self) -> dict[str, Any]:
        found = self.message.get("error") if isinstance(self.message, dict) else None
        return found if isinstance(found, dict) else {}


def _let(asked: Asked) -> None:
    return None


def _leave(asked: Asked, answered: Answered) -> None:
    return None


def _every(frame: bytes) -> bool:
    return True


def spoiled(
    app: ASGIApp,
    *,
    inward: Callable[[Asked], None] = _let,
    outward: Callable[[Asked, Answered], None] = _leave,
    keeps: Callable[[bytes], bool] = _every,
) -> ASGIApp:
    """``app`` behind the wrapper. ``keeps`` says which events of a stream come through."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        asked = Asked(scope["method"], list(scope["headers"]), await _body(receive), scope["query_string"])
        asked.message = _json(asked.body)
        inward(asked)
        body = asked.body if asked.message is None else to_json(asked.message)
        asked.put("content-length", str(len(body)))
        changed = {**scope, "method": asked.method, "headers": asked.headers, "query_string": asked.query}
        await app(changed, _once(body, receive), _Outward(send, asked, outward, keeps))

    return wrapped


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives ``body``, then what the socket says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class _Outward:
    """Holds a JSON answer back until it is whole and spoiled; lets the events of a stream through one by one."""

    def __init__(
        self,
        send: Send,
        asked: Asked,
        outward: Callable[[Asked, Answered], None],
        keeps: Callable[[bytes], bool],
    ) -> None:
        self._send = send
        self._asked = asked
        self._outward = outward
        self._keeps = keeps
        self._answered = Answered()
        self._streams = False
        self._held = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._answered.status, self._answered.headers = message["status"], list(message["headers"])
            self._streams = (b"content-type", b"text/event-stream") in self._answered.headers
            if self._streams:
                await self._send(message)
            return
        last = not message.get("more_body", False)
        if self._streams:
            if last or self._keeps(message["body"]):
                await self._send(message)
            return
        self._held += message.get("body", b"")
        if last:
            await self._answer()

    async def _answer(self) -> None:
        answered = self._answered
        answered.message = _json(self._held)
        self._outward(self._asked, answered)
        body = self._held if answered.message is None else to_json(answered.message)
        answered.put("content-length", str(len(body)))
        await self._send({"type": "http.response.start", "status": answered.status, "headers": answered.headers})
        await self._send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _json(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return None
