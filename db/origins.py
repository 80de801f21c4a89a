"""Origins of web pages (RFC 6454), as browsers write them in ``Origin``: so they are compared as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from db.errors import invalid

MOST: Final = 50
LONGEST: Final = 255
LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


def origins_of(given: Iterable[str]) -> list[str]:
    """What a key may list, in order and each once. Raises ``AppError`` for what is no origin, and for too many."""
    found = list(dict.fromkeys(origin_of(text) for text in given))
    if len(found) > MOST:
        raise invalid(f"A key lists at most {MOST} origins.", "Make several keys.")
    return found


def origin_of(text: str) -> str:
    """``text`` as a browser would write it. Raises ``AppError`` for a path, a wildcard, and everything else that is no
    origin. Applications that are no browser may have schemes of their own (``capacitor://localhost``)."""
    scheme, separator, rest = text.strip().lower().partition("://")
    host, port = _split(rest.rstrip("/"))
    if not separator or len(text) > LONGEST or not _SCHEME.fullmatch(scheme) or host is None:
        raise invalid(
            f"{text[:80]!r} is not the origin of a page.",
            "Give scheme and host, without a path or wildcard: https://app.example.com, or http://localhost:3000.",
        )
    shown = "" if port is None or _DEFAULT_PORTS.get(scheme) == port else f":{port}"
    return f"{scheme}://{host}{shown}"


def is_loopback(origin: str) -> bool:
    """Whether ``origin`` is that of a page on this computer."""
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in _DEFAULT_PORTS and _split(rest)[0] in LOOPBACK


def _split(rest: str) -> tuple[str | None, int | None]:
    """Host and port; no host for what is more, or less."""
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
        host = rest.removesuffix(f":{port}") if port is not None else rest
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError:
        return None, None
    return (host, port) if _HOST.fullmatch(host) else (None, None)
