"""Where the request of this task came from: told to the database with each transaction that may write, for the audit.

The edge says it once; whatever writes needs not know. It is words of a stranger, and goes into a statement as they are,
so nothing is left of them but printable ASCII without quotes and backslashes.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from typing import Final, NamedTuple

MOST_AGENT: Final = 160
_UNWANTED: Final = re.compile(r"[^\x20-\x7e]|['\"\\]")


class Origin(NamedTuple):
    """``address``: of the peer, or what a trusted proxy says; ``agent``: the User-Agent field as it came."""

    address: str
    agent: bytes


_here: ContextVar[Origin | None] = ContextVar("innkeeper_origin", default=None)


def come(address: str, agent: bytes) -> Token[Origin | None]:
    return _here.set(Origin(address, agent))


def leave(token: Token[Origin | None]) -> None:
    _here.reset(token)


def told() -> str:
    """What is added to a BEGIN: ``app.origin`` as ``address user-agent``; nothing where no request is."""
    here = _here.get()
    if here is None:
        return ""
    address = _UNWANTED.sub("", here.address).replace(" ", "") or "nowhere"
    agent = _UNWANTED.sub("", here.agent[:MOST_AGENT].decode("latin-1")).strip()
    return f"; SET LOCAL app.origin = '{address} {agent}'"
