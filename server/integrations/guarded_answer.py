"""What comes back from a host that a tenant named: only so much, in only so long, of only these kinds.

Content is decoded here, so that the limit of its size holds for what it becomes: a gzip bomb ends where an endless body
would.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

import httpcore2
import httpx2

from db.errors import AppError

PIECE: Final = 1 << 16
"""Decoded bytes that are held at once."""
ACCEPT_ENCODING: Final = "gzip, deflate"
ANYTHING: Final = frozenset({""})
"""For :attr:`Limits.content_types`: whatever comes is taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request, redirects and all. ``max_bytes``: of the content, packed and unpacked, and ``max_line`` of a line
    of it; ``content_types``: what a successful answer may be."""

    content_types: frozenset[str]
    max_bytes: int = 1 << 20
    total_seconds: float = 15.0
    connect_seconds: float = 5.0
    redirects: int = 3
    max_line: int | None = None

    def check(self, status: int, headers: httpx2.Headers) -> None:
        """Refuse by what an answer says of itself. Raises ``AppError``."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise too_large()
        has_content = 200 <= status < 300 and status != 204
        if has_content and self.content_types != ANYTHING and content_type(headers) not in self.content_types:
            raise wrong_type()


class Content(httpx2.AsyncByteStream):
    """The decoded content of an answer, as far as the limits go. Whoever stops reading may go on with another loop, as
    the OpenAI SDK does to use a connection again."""

    def __init__(self, answer: httpcore2.Response, encoding: str, limits: Limits, deadline: float) -> None:
        self._answer = answer
        self._parts = aiter(cast(AsyncIterable[bytes], answer.stream))
        self._decoded = _decoder(encoding)
        self._left = limits.max_bytes
        self._packed_left = limits.max_bytes
        self._max_line = limits.max_bytes if limits.max_line is None else limits.max_line
        self._line = 0
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._next()) is not None:
            self._packed_left -= len(part)
            for piece in self._decoded(part):
                self._left -= len(piece)
                end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
                self._line = self._line + len(piece) if end < 0 else len(piece) - end - 1
                if self._left < 0 or self._line > self._max_line:
                    raise too_large()
                yield piece
            if self._packed_left < 0:
                raise too_large()

    async def aclose(self) -> None:
        with as_httpx2():
            await self._answer.aclose()

    async def _next(self) -> bytes | None:
        try:
            with as_httpx2():
                async with asyncio.timeout_at(self._deadline):
                    return await anext(self._parts)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise too_slow() from None


def content_type(headers: httpx2.Headers) -> str:
    """Without its parameters; empty when nothing is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


@contextmanager
def as_httpx2() -> Iterator[None]:
    """Faults of the network as every client of httpx2 knows them, without the addresses they may name."""
    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        kind: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise kind(f"{kind.__name__} at an address that a tenant gave") from error


def _decoder(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """RFC 9110, 8.4.1. "deflate" is zlib's format, though some mean the bare one by it."""
    named = encoding.strip().lower()
    if named in ("", "identity"):
        return lambda part: iter((part,))
    if named in ("gzip", "x-gzip"):
        return _Inflated(zlib.MAX_WBITS | 16)
    if named == "deflate":
        return _Inflated(zlib.MAX_WBITS)
    raise wrong_type()


class _Inflated:
    def __init__(self, format_bits: int) -> None:
        self._inflate = zlib.decompressobj(format_bits)
        self._may_be_bare = format_bits == zlib.MAX_WBITS

    def __call__(self, part: bytes) -> Iterator[bytes]:
        piece = b""
        # A full piece may leave more behind though all that came is used up.
        while (part or len(piece) == PIECE) and not self._inflate.eof:
            piece = self._next(part)
            part = self._inflate.unconsumed_tail
            if piece:
                yield piece

    def _next(self, part: bytes) -> bytes:
        try:
            return self._inflate.decompress(part, PIECE)
        except zlib.error:
            if not self._may_be_bare:
                raise bad_answer() from None
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._next(part)
        finally:
            self._may_be_bare = False


def too_large() -> AppError:
    return AppError(
        "remote_too_large", 502, "The other side sent more than is read.", "Give a URL of something smaller."
    )


def too_slow() -> AppError:
    return AppError(
        "remote_timeout",
        504,
        "The other side did not answer in time.",
        "Try again; check that the URL answers.",
        True,
        5,
    )


def wrong_type() -> AppError:
    return AppError(
        "remote_wrong_type",
        502,
        "The other side sent content of another kind than what is read here.",
        "Check that the URL is the right one: it must be of the document or interface itself, not of a page about it.",
    )


def bad_answer(said: str = "The other side sent what cannot be understood.") -> AppError:
    return AppError("remote_bad_answer", 502, said, "Check the URL, then try again.", True, 5)


def unreachable() -> AppError:
    return AppError(
        "remote_unreachable", 502, "The other side cannot be reached.", "Check the URL; try again shortly.", True, 5
    )
