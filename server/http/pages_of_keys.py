"""Pages of other origins, let in by the publishable keys that list them (Fetch standard, CORS).

A browser asks before it sends, and then says neither who asks nor with which key. So the answer to that question, and
whether a page may read what it is told, follow from all keys of the house: an origin that any live key lists is known
here. What is then done is decided by the key of the request itself, which must list the page's own origin: one project
gains nothing by what another one lists. Nothing here reads or takes a cookie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from time import monotonic
from typing import Final

from starlette.types import Scope

from db import end_users
from db.database import Database
from db.errors import AppError
from db.origins import LONGEST, is_loopback
from server.http.fields import fields_of

PATHS: Final = re.compile(r"/(?:agui(?:/[^/]+)?|runs/.+|threads/.+|v1/.+|storage/presign|oauth/token)")
FOREIGN: Final = "innkeeper.foreign_page"
"""The ASGI scope key of a request that came from a page which only keys, and not the house itself, may let in."""
KNOWN_SECONDS: Final = 60.0
REMEMBERED: Final = 1000


class PagesOfKeys:
    """One a process. ``loopback``: pages on the developer's own computer may use every publishable key."""

    def __init__(self, database: Database, *, loopback: bool = False, clock: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._loopback = loopback
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def covers(self, scope: Scope) -> bool:
        """Whether pages of other origins have any business at this path."""
        return scope["type"] == "http" and PATHS.fullmatch(scope["path"]) is not None

    async def knows(self, origin: bytes) -> bool:
        """Whether a live key lists the origin. Known ones are remembered, others asked for each time, so that a new key
        works at once. Raises ``AppError`` when the database is away."""
        if self._clock() < self._until.get(origin, 0.0):
            return True
        if len(origin) > LONGEST or not await end_users.is_known_origin(self._database, origin.decode("latin-1")):
            return False
        if len(self._until) >= REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[origin] = self._clock() + KNOWN_SECONDS
        return True

    def may_use(self, scope: Scope, origins: Collection[str] | None) -> bool:
        """Whether the page that a request comes from may use a key of ``origins``; ``None``: of a key that lists none,
        for which the house's own list has decided. A request that no page makes is no browser's, and may."""
        origin = fields_of(scope).get(b"origin")
        if origin is None:
            return True
        if origins is None:
            return FOREIGN not in scope
        page = origin.decode("latin-1")
        return page in origins or (self._loopback and is_loopback(page))


def not_listed() -> AppError:
    return AppError(
        "origin_not_allowed",
        403,
        "Pages of this origin may not use this key.",
        "Add the origin to a publishable key of the project, or use the key that lists it.",
    )
