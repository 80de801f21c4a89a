"""Serving an object of the local store: whole or a range of it, through a buffer of fixed size.

What is served can do nothing where it is shown: its type is never guessed, as a document it has no origin, no scripts
and no frame around it, and only types that are safe to show are shown at all (:mod:`tools.serving`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final, TypeAlias

from starlette.types import Receive, Scope, Send

from db.errors import AppError
from server.http.conditions import Span, Validators, failed, span
from server.http.fields import fields_of
from server.http.problem import send_problem
from server.integrations.local_disk import CHUNK
from server.integrations.local_files import LocalFiles, gone
from server.integrations.local_tickets import Claims

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
SAFE: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    # Kept by nobody but the browser that asked, and asked for again each time: what was deleted is gone.
    (b"cache-control", b"private, no-cache"),
)


async def show(store: LocalFiles, claims: Claims, scope: Scope, receive: Receive, send: Send, shared: Headers) -> None:
    """Answer a GET or HEAD. ``shared``: headers of every answer. Raises ``AppError`` before anything is sent."""
    opened = await store.run(store.disk.open, claims.key)
    if opened is None:
        raise gone()
    descriptor, stat = opened
    try:
        fields, size = fields_of(scope), stat.st_size
        # The bytes behind a key never change: its last part is as strong a validator as any sum of them.
        known = Validators(f'"{claims.key.rpartition("/")[2]}"', int(stat.st_mtime))
        # Ranges are of GET alone (RFC 9110, 14.2).
        head = scope["method"] == "HEAD"
        status, wanted = failed(fields, known), Span(0, size) if head else span(fields, known, size)
        if status == 412:
            raise AppError("precondition_failed", 412, "The file is not the one of If-Match.", "Ask without it.")
        headers = [*shared, *SAFE, (b"etag", known.etag.encode()), (b"last-modified", known.last_modified.encode())]
        if status == 304:
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif wanted is None:
            error = AppError("range_not_satisfiable", 416, "The file has no such bytes.", "Ask for a lower range.")
            await send_problem(send, error, [*shared, (b"content-range", f"bytes */{size}".encode())])
        else:
            headers += _about(claims, wanted, size)
            await send({"type": "http.response.start", "status": 206 if wanted.partial else 200, "headers": headers})
            await _send(store, descriptor, Span(0, 0) if head else wanted, receive, send)
    finally:
        os.close(descriptor)


def _about(claims: Claims, wanted: Span, size: int) -> list[tuple[bytes, bytes]]:
    shown = "inline" if "inline" in claims.given else "attachment"
    headers = [
        (b"content-type", claims.given["type"].encode()),
        (b"content-length", str(wanted.end - wanted.start).encode()),
        (b"content-disposition", f'{shown}; filename="{claims.given["name"]}"'.encode()),
        (b"accept-ranges", b"bytes"),
    ]
    if wanted.partial:
        headers.append((b"content-range", f"bytes {wanted.start}-{wanted.end - 1}/{size}".encode()))
    return headers


async def _send(store: LocalFiles, descriptor: int, wanted: Span, receive: Receive, send: Send) -> None:
    at, left = wanted.start, asyncio.create_task(_left(receive))
    try:
        while at < wanted.end and not left.done():
            data = await store.run(os.pread, descriptor, min(CHUNK, wanted.end - at), at)
            if not data:
                raise RuntimeError("an object became shorter while it was read")
            at += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": at < wanted.end})
        if wanted.start == wanted.end:
            await send({"type": "http.response.body", "body": b""})
    finally:
        left.cancel()


async def _left(receive: Receive) -> None:
    """Returns when whoever asked has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
