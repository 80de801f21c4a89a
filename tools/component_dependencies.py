"""What an item needs of registries: its own by a plain name, others by namespace or address.

In shadcn's format a plain name means shadcn's own registry. Here it means an item of the registry it is published in,
so that no item of ours ever resolves to somebody else's of the same name; shadcn's are ``@shadcn/button``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from tools import versions

PLAIN: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_NAMESPACED: Final = re.compile(r"@[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?/[^\s/@][^\s]*")
_FORGE: Final = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[A-Za-z0-9._/#@-]+")


class Own(NamedTuple):
    """An item of the same registry; ``wanted``: a version or range of it, or the newest."""

    name: str
    wanted: str | None

    def __str__(self) -> str:
        return self.name if self.wanted is None else f"{self.name}@{self.wanted}"


def own_dependency(address: str, own: Callable[[str], str | None]) -> Own | None:
    """The item of this registry that is meant; ``None`` for somebody else's."""
    name, _, wanted = (own(address) or address).partition("@")
    return Own(name, wanted or None) if PLAIN.fullmatch(name) else None


def dependency_fault(address: str, own: Callable[[str], str | None], name: str | None) -> str | None:
    """What is wrong with an entry of ``registryDependencies`` of the item ``name``; ``None`` when nothing is."""
    mine = own_dependency(address, own)
    if mine is None:
        return None if _is_elsewhere(address) else _ELSEWHERE
    if mine.name == name:
        return "must not be the item itself"
    if mine.name.lower().endswith(".json"):
        return "must not be a file on somebody's disk"
    try:
        versions.wanted(mine.wanted or versions.LATEST)
    except ValueError as error:
        return f"has a version behind its @ that {error}"
    return None


_ELSEWHERE: Final = (
    "must be the name of an item of this registry (card, card@^1.2), an item of another (@acme/card), or an http(s)"
    " address"
)


def _is_elsewhere(address: str) -> bool:
    if address.startswith(("http://", "https://")):
        parts = urlsplit(address)
        return bool(parts.hostname) and not parts.username and not re.search(r"\s", address)
    return bool(_NAMESPACED.fullmatch(address) or _FORGE.fullmatch(address))
