"""Answers that a reader may have already: validators and 304 (RFC 9110, 8.8.3, 13.1.2 and 15.4.5)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response


def etag_of(*parts: bytes | str) -> str:
    """A strong validator of what ``parts`` alone decide."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8) + data)
    return f'"{digest.hexdigest()[:32]}"'


def has_it(request: Request, etag: str) -> bool:
    """Whether the reader says that it has what ``etag`` names. A GET compares weakly (RFC 9110, 13.1.2)."""
    said = ",".join(request.headers.getlist("if-none-match"))
    return any(one.strip().removeprefix("W/") in (etag, "*") for one in said.split(","))


def not_modified(etag: str, headers: Mapping[str, str]) -> Response:
    """304, with the fields that 200 would have had (RFC 9110, 15.4.5)."""
    return Response(status_code=304, headers={**headers, "etag": etag})
