"""The access line: one structured log record a request, built for its price, since every request pays it.

Method, path, route template, status, duration, the client's address, and what the endpoint noted (tool, error code).
Never a query string and never a header: both can carry secrets.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import time
from typing import TypeAlias

from starlette.types import Scope

from server import logs
from server.logs import JsonFormatter, KnownRecord

NOTES_KEY = "innkeeper.log"
"""The ASGI scope key under which an endpoint leaves what it wants on the line."""

Notes: TypeAlias = Mapping[str, object]
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
    client = scope.get("client")
    said = (
        scope["method"], scope["path"], route, status, seconds, client[0] if client else None, scope.get(NOTES_KEY)
    )  # fmt: skip
    listener = logs.only_listener(_log)
    if listener is not None:
        # The same line without a record, and spelled together with those it leaves with.
        listener.hold(_line, listener.direct, time(), logs.request_id.get() or "", *said)
    elif _log.isEnabledFor(logging.INFO):
        _log.handle(AccessRecord(_fields(*said)))


def _fields(
    method: str, path: str, route: str, status: int, seconds: float, client: str | None, notes: Notes | None
) -> dict[str, object]:
    fields: dict[str, object] = {
        "method": method,
        "path": path,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "client": client,
    }
    return {**fields, **notes} if notes else fields


def _line(
    json: JsonFormatter, created: float, request: str, method: str, path: str, route: str, status: int, seconds: float,
    client: str | None, notes: Notes | None,
) -> str:  # fmt: skip
    """What the formatter makes of a record with :func:`_fields`. ``request`` is an id that the edge let in: it is
    printed as it is."""
    spelled = json.spelled
    asked = (method, path, route, client)
    about = json.pieces.get(asked)
    if about is None:
        about = (
            f',"method":{spelled(method)},"path":{spelled(path)},"route":{spelled(route)},"client":{spelled(client)}'
        )
        json.keep(asked, about)
    more = "".join([_note(json, name, value) for name, value in notes.items()]) if notes else ""
    return (
        f'{{"time":"{json.clock(created)}","level":"info","logger":"innkeeper.access","message":"request"'
        f',"request_id":"{request}"{about},"status":{status},"duration_ms":{seconds * 1000:.2f}{more}}}'
    )


def _note(json: JsonFormatter, name: str, value: object) -> str:
    """One of few, such as the name of a tool, or one of its own."""
    if type(value) is not str:
        return f',"{name}":{json.spelled(value)}'
    spelled = json.pieces.get((name, value))
    if spelled is None:
        spelled = f',"{name}":{json.spelled(value)}'
        json.keep((name, value), spelled)
    return spelled
