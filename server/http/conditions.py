"""Conditional and range requests for something that has a strong ETag (RFC 9110, sections 13 and 14).

Of several ranges in one request none is served, which section 14.2 leaves to the server: the whole answer is right too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from typing import Final, Literal

from server.http.fields import Fields

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{1,18})?-(\d{1,18})?[ \t]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Validators:
    """``etag`` with its quotes; ``modified`` in whole seconds of the Unix epoch."""

    etag: str
    modified: int

    @property
    def last_modified(self) -> str:
        return formatdate(self.modified, usegmt=True)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` up to and not including ``end``; all of them unless ``partial``."""

    start: int
    end: int
    partial: bool = False


def failed(fields: Fields, known: Validators) -> Literal[304, 412] | None:
    """The status that answers a GET or HEAD whose conditions do not hold, in the order of section 13.2.2."""
    match = _text(fields, b"if-match")
    if match is not None:
        if match.strip() != "*" and known.etag not in _TAG.findall(match):
            return 412
    elif (since := _date(fields, b"if-unmodified-since")) is not None and known.modified > since:
        return 412
    none_match = _text(fields, b"if-none-match")
    if none_match is not None:
        if none_match.strip() == "*" or known.etag in [tag.removeprefix("W/") for tag in _TAG.findall(none_match)]:
            return 304
    elif (since := _date(fields, b"if-modified-since")) is not None and known.modified <= since:
        return 304
    return None


def span(fields: Fields, known: Validators, size: int) -> Span | None:
    """What of ``size`` bytes is asked for; ``None`` for a range of which there is nothing (416)."""
    whole = Span(0, size)
    asked = _text(fields, b"range")
    if asked is None or not _if_range(fields, known):
        return whole
    found = _RANGE.fullmatch(asked)
    if found is None or found.groups() == (None, None):
        return whole
    first, last = (None if group is None else int(group) for group in found.groups())
    if first is None:
        return Span(max(0, size - (last or 0)), size, True) if last and size else None
    if last is not None and last < first:
        return whole
    return Span(first, min(size, size if last is None else last + 1), True) if first < size else None


def _if_range(fields: Fields, known: Validators) -> bool:
    """Whether a range may be served: the condition is the very same ETag, or the very same date."""
    given = _text(fields, b"if-range")
    return given is None or given in (known.etag, known.last_modified)


def _text(fields: Fields, name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None or name in fields.repeated else value.decode("latin-1")


def _date(fields: Fields, name: bytes) -> float | None:
    try:
        found = parsedate_to_datetime(_text(fields, name) or "")
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
