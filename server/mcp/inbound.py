"""What goes into a lane and what comes out of it: one MCP POST as bytes, one answer as bytes.

The endpoint authenticates, narrows and reads; a *lane* answers. Lanes are asked in order and the first answer counts,
so a lane that knows only the commonest requests can stand before the one that knows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers

from db.principal import Principal

if TYPE_CHECKING:
    from tools.narrowing import Narrowing

RawHeaders = list[tuple[bytes, bytes]]

JSON_HEADERS: RawHeaders = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


@dataclass(eq=False)
class Inbound:
    """One authenticated POST to the endpoint. ``principal`` is already narrowed by ``narrowing``; ``raw_headers`` have
    lower-case names and stripped values.
    """

    principal: Principal
    narrowing: Narrowing
    raw_headers: RawHeaders
    body: bytes
    notes: dict[str, object] = field(default_factory=dict)
    """What a lane wants on the access log line (the tool's name, the error's code)."""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Case-insensitive; a repeated header shows its first value here and all of them in ``raw_headers``."""
        return Headers(raw=self.raw_headers)

    @cached_property
    def plain_headers(self) -> dict[str, str]:
        """Lower-case names to values, the first of repeated ones. Much cheaper to read than ``headers``."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self.raw_headers)}

    @property
    def repeats_headers(self) -> bool:
        return len(self.plain_headers) != len(self.raw_headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. An empty body goes out without a content type."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def raw_headers(self) -> RawHeaders:
        kind = JSON_HEADERS if self.body else []
        return [*kind, (b"content-length", str(len(self.body)).encode()), *self.headers]


class Lane(Protocol):
    """Answers a POST, or says ``None`` to leave it to the next lane."""

    async def answer(self, inbound: Inbound) -> Answer | None: ...
