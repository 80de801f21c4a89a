"""What goes into a lane and what comes out of it: one MCP POST as bytes, one answer as bytes.

The endpoint authenticates, narrows and reads; a *lane* answers. Lanes are asked in order and the first answer counts,
so a lane that knows only the commonest requests can stand before the one that knows them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from db.errors import AppError
from db.principal import Principal
from server.http.fields import Fields
from server.http.one_write import WHOLE

if TYPE_CHECKING:
    from tools.narrowing import Narrowing

RawHeaders = list[tuple[bytes, bytes]]

JSON_HEADERS: RawHeaders = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Inbound:
    """One authenticated POST to the endpoint. ``principal`` is already narrowed by ``narrowing``; ``raw_headers`` have
    lower-case names and stripped values, ``fields`` are the same by name. ``notes``: what a lane wants on the access
    log line (the tool's name, the error's code).
    """

    __slots__ = ("_headers", "body", "fields", "narrowing", "notes", "principal", "raw_headers")

    def __init__(
        self, principal: Principal, narrowing: Narrowing, raw_headers: RawHeaders, body: bytes, fields: Fields
    ) -> None:
        self.principal = principal
        self.narrowing = narrowing
        self.raw_headers = raw_headers
        self.body = body
        self.fields = fields
        self.notes: dict[str, object] = {}
        self._headers: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The first value of each header."""
        if self._headers is None:
            self._headers = {}
            for name, value in self.raw_headers:
                self._headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        return self._headers

    @property
    def repeats_headers(self) -> bool:
        return bool(self.fields.repeated)

    def all_headers(self) -> Headers:
        """Every value of every header, for the checks that care about repeated ones."""
        return Headers(raw=self.raw_headers)


class Answer(NamedTuple):
    """A whole HTTP answer. An empty body goes out without a content type."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def raw_headers(self) -> RawHeaders:
        kind = JSON_HEADERS if self.body else []
        return [*kind, (b"content-length", str(len(self.body)).encode()), *self.headers]


async def send_answer(scope: Scope, send: Send, answer: Answer) -> None:
    """Put ``answer`` on the wire, in one message where the server takes it so."""
    start: Message = {"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()}
    if WHOLE in scope:
        start[WHOLE] = answer.body
        await send(start)
    else:
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})


class LongAnswer(Protocol):
    """An answer that is still in the making: ``send`` makes it, and hears from ``receive`` when nobody waits for it.
    ``end`` gives the client ``error`` instead of all that is not sent yet."""

    async def send(self, receive: Receive, send: Send) -> None: ...

    def end(self, error: AppError) -> None: ...


class Lane(Protocol):
    """Answers a POST, or says ``None`` to leave it to the next lane."""

    async def answer(self, inbound: Inbound) -> Answer | LongAnswer | None: ...
