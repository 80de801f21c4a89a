"""The header fields of a request by name: read once, asked by every layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Scope, Send

FIELDS_KEY = "innkeeper.fields"
"""The ASGI scope key under which they are kept. Who changes ``scope["headers"]`` must do so before the first ask."""

_NONE: frozenset[bytes] = frozenset()


class Fields(dict[bytes, bytes]):
    """Values by lower-case name; of a field that came more than once, which is in ``repeated``, the last one.

    ``known``: what layers found out from these values alone, each under a key of its own. Fields that are alike but for
    ``content-length`` share it, so it must not depend on that one. ``afterwards``: where an answer that will be open
    for long leaves the sending of its body, which the front door calls once everything behind it has returned, so that
    a silent stream holds none of that.
    """

    __slots__ = ("afterwards", "known", "repeated")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(headers)
        self.repeated = _NONE if len(self) == len(headers) else _repeated(headers)
        self.known: dict[object, Any] = {}
        self.afterwards: Callable[[Send], Awaitable[None]] | None = None

    def alike(self, name: bytes, value: bytes) -> Fields:
        """The same fields with another ``content-length``."""
        other = Fields.__new__(Fields)
        other.update(self)
        other[name] = value
        other.repeated = self.repeated
        other.known = self.known
        other.afterwards = None
        return other


def fields_of(scope: Scope) -> Fields:
    """The fields of an HTTP or WebSocket scope."""
    fields: Fields | None = scope.get(FIELDS_KEY)
    if fields is None:
        fields = scope[FIELDS_KEY] = Fields(scope["headers"])
    return fields


def _repeated(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    counted = Counter(name for name, _ in headers)
    return frozenset(name for name, count in counted.items() if count > 1)
