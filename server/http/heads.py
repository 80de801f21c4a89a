"""The head of a request that comes again on its connection: known by its bytes, and not parsed a second time.

A client says the same in the head of each message and gives the length of the body, which alone differs. So a head is
kept in two parts, around the digits of that length. What does not match them byte for byte, or does not bring its whole
body along, is the parser's: nothing is taken here that the parser did not take before on the same connection.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from server.http.fields import FIELDS_KEY, Fields

LONGEST: Final = 4096
MOST_DIGITS: Final = 7
BODY_KEY: Final = "innkeeper.body"
"""The ASGI scope key of a body that came whole with its head."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,%d})(?=\r\n)" % MOST_DIGITS, re.IGNORECASE)
_DIFFERENT: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class KnownHead(NamedTuple):
    """``scope``: what the parser made of it. ``place``: where in its headers the length stands."""

    before: bytes
    after: bytes
    scope: dict[str, Any]
    fields: Fields
    place: int
    app: Any

    def match(self, data: bytes) -> dict[str, Any] | None:
        """The scope of a request with this head and its whole body; ``None`` for anything else."""
        start = len(self.before)
        end = data.find(b"\r", start, start + MOST_DIGITS + 1)
        digits = data[start:end]
        if not digits.isdigit() or not data.startswith(self.before) or not data.startswith(self.after, end):
            return None
        begins = end + len(self.after)
        if len(data) - begins != int(digits):
            return None
        scope = self.scope.copy()
        length = (b"content-length", digits)
        headers = scope["headers"] = scope["headers"].copy()
        headers[self.place] = length
        scope[FIELDS_KEY] = self.fields.alike(*length)
        scope[BODY_KEY] = data[begins:]
        scope["state"] = scope["state"].copy()
        return scope


def known_head(data: bytes, scope: dict[str, Any], app: Any) -> KnownHead | None:
    """What to keep of a request that the parser took, and ``app`` answers; ``None`` for one that is not to be known
    again. ``data``: all of it, as it came."""
    fields: Fields = scope[FIELDS_KEY]
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    if scope["method"] != "POST" or end < 0 or not _DIFFERENT.isdisjoint(fields):
        return None
    found = _LENGTH.search(data, 0, end + 2)
    if found is None or found[1] != fields[b"content-length"]:
        return None
    length: bytes = found[1]
    if len(data) - end - 4 != int(length) or data.count(b"\r\n", 0, end + 2) != len(scope["headers"]) + 1:
        return None
    place = scope["headers"].index((b"content-length", length))
    return KnownHead(data[: found.start(1)], data[found.end(1) : end + 4], scope.copy(), fields, place, app)
