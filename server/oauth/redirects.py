"""Redirect URIs: which may be registered, when one that is presented is a registered one, and what people see of it.

Matching is exact, character by character (RFC 9700 2.1), but for the port of a loopback address, which a program takes
as it finds a free one (RFC 8252 7.3).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from db.errors import AppError

LONGEST: Final = 2000
_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")  # RFC 3986 without "#": no fragment
_LOOPBACK: Final = re.compile(r"(http://(?:127\.0\.0\.1|localhost|\[::1\]))(?::([1-9][0-9]{0,4}))?((?:[/?].*)?)")
_HTTPS: Final = re.compile(
    r"https://((?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
    r"(?::([1-9][0-9]{0,4}))?(?:[/?].*)?"
)
_PRIVATE: Final = re.compile(r"([a-z][a-z0-9+.-]*):.+")
_NEVER: Final = frozenset(
    {
        *("about", "blob", "chrome", "content", "data", "file", "filesystem", "ftp", "http", "https", "intent"),
        *("jar", "javascript", "mailto", "ms-appx", "resource", "sms", "tel", "urn", "vbscript", "view-source"),
        *("ws", "wss"),
    }
)
"""Schemes in which a browser runs, reads or sends something by itself."""


class Target(NamedTuple):
    """Where an answer goes, for people. ``host``: what to show; ``kind``: how far it can be trusted."""

    host: str
    kind: str


def check(uri: str) -> None:
    """Raises ``AppError`` ``invalid_redirect_uri`` (RFC 7591 3.2.2) unless codes may be sent to ``uri`` at all."""
    if len(uri) <= LONGEST and _CHARACTERS.fullmatch(uri) and (_loopback(uri) or _https(uri) or _private(uri)):
        return
    raise AppError(
        "invalid_redirect_uri",
        400,
        "A redirect_uri is https, or http on 127.0.0.1, [::1] or localhost, or of an own scheme; without a fragment.",
        "Register the address on which the application itself listens.",
    )


def matches(presented: str, registered: tuple[str, ...]) -> bool:
    """Whether ``presented`` is one of the registered ones."""
    if presented in registered:
        return True
    found = _loopback(presented) if len(presented) <= LONGEST and _CHARACTERS.fullmatch(presented) else None
    if found is None:
        return False
    return any(
        own is not None and (own[1], own[3]) == (found[1], found[3]) for own in (_loopback(uri) for uri in registered)
    )


def target(uri: str) -> Target:
    """What a person should know of a checked ``uri``."""
    if found := _loopback(uri):
        return Target(found[1].removeprefix("http://") + (f":{found[2]}" if found[2] else ""), "loopback")
    if found := _https(uri):
        return Target(found[1].lower() + (f":{found[2]}" if found[2] else ""), "web")
    return Target(f"{uri.partition(':')[0]}:", "private")


def form_target(uri: str) -> str:
    """The source that a page's ``form-action`` must allow, so that a form may end at ``uri`` (CSP 3)."""
    scheme, _, _ = uri.partition(":")
    host = urlsplit(uri).netloc if scheme in ("http", "https") else ""
    # The grammar of host sources knows no IPv6 address.
    return f"{scheme}://{host}" if host and "[" not in host else f"{scheme}:"


def _loopback(uri: str) -> re.Match[str] | None:
    return _with_port(_LOOPBACK.fullmatch(uri))


def _https(uri: str) -> re.Match[str] | None:
    return _with_port(_HTTPS.fullmatch(uri))


def _private(uri: str) -> re.Match[str] | None:
    found = _PRIVATE.fullmatch(uri)
    if found is None or found[1] in _NEVER or "@" in urlsplit(uri).netloc:
        return None
    return found


def _with_port(found: re.Match[str] | None) -> re.Match[str] | None:
    return found if found is None or found[2] is None or int(found[2]) < 65536 else None
