"""The access line: one structured log record a request, built for its price, since every request pays it.

Method, path, route template, status, duration, the client's address, and what the endpoint noted (tool, error code).
Never a query string and never a header: both can carry secrets.
"""

from __future__ import annotations

import logging
from time import time

from starlette.types import Scope

from server import logs
from server.logs import JsonFormatter, KnownRecord, LineHandler

NOTES_KEY = "innkeeper.log"
"""The ASGI scope key under which an endpoint leaves what it wants on the line."""

_log = logging.getLogger("innkeeper.access")


_ALIKE = vars(logging.LogRecord(_log.name, logging.INFO, "", 0, "request", None, None))


class AccessRecord(KnownRecord):
    """A log record that starts as a copy. ``logging`` would look for the calling line and ask for the thread, the
    process and the task of each request, which says nothing here and costs more than the line.
    """

    def __init__(self, fields: dict[str, object]) -> None:
        now = time()
        self.__dict__.update(_ALIKE, created=now, msecs=now % 1 * 1000, fields=fields, **fields)


def log_access(scope: Scope, route: str, status: int, seconds: float) -> None:
    """Write the line of a request that was answered with ``status`` (0: with nothing) after ``seconds``."""
    if not _log.isEnabledFor(logging.INFO):
        return
    client = scope.get("client")
    fields: dict[str, object] = {
        "method": scope["method"],
        "path": scope["path"],
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "client": client[0] if client else None,
    }
    notes = scope.get(NOTES_KEY)
    if notes:
        fields.update(notes)
    handlers = logging.root.handlers
    first = handlers[0] if len(handlers) == 1 else None
    if (
        type(first) is not LineHandler
        or type(first.formatter) is not JsonFormatter
        or _log.handlers
        or not _log.propagate
        or first.level > logging.INFO
    ):
        _log.handle(AccessRecord(fields))
        return
    # Nobody else listens: the same line without a record, and spelled with the others it leaves with.
    first.hold(first.formatter.line, time(), _log.name, "request", logs.request_id.get() or "", fields)
