"""The port through which tools reach addresses that tenants give."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from db.errors import AppError


class Answered(NamedTuple):
    """An answer from outside. ``url``: where it came from after redirects; ``content_type`` without its parameters."""

    url: str
    status: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes


class Outside(Protocol):
    """The way to addresses that tenants give. Nothing else may be requested of them."""

    def check(self, url: str) -> None:
        """Raises ``AppError`` ``url_not_allowed`` for a URL that is refused whatever its host resolves to."""
        ...

    async def request(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int = 1 << 20,
        seconds: float = 15.0,
        redirects: int = 3,
    ) -> Answered:
        """The whole answer, whatever its status. ``accept``: the content types a successful one may have, ``None`` for
        any. Every fault is an ``AppError`` that can be shown: ``url_not_allowed``, or one of ``remote_*``."""
        ...


class NoOutside:
    """For a process that goes nowhere: every address is taken as it is, since none is ever gone to."""

    def check(self, url: str) -> None:
        """There is nothing to refuse."""

    async def request(self, method: str, url: str, **_how: object) -> Answered:
        raise AppError(
            "outside_not_configured", 503, "This process goes to no address of a tenant.", "Ask who runs it."
        )


NOTHING_OUTSIDE: Final[Outside] = NoOutside()
