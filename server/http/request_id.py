"""The id of the request being served: one value that ties an answer, its log lines and a bug report together.

Accepted from ``X-Request-Id`` when it is harmless to print, made up otherwise, always echoed, and found on every log
line through ``server.logs.request_id``. Tasks started by a request inherit it.
"""

from __future__ import annotations

import re

from db.ids import uuid7

_HARMLESS = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


def request_id_from(offered: bytes | None) -> str:
    """``offered`` when it is at most 128 characters that can break no log line, else a new UUIDv7."""
    if offered is not None and _HARMLESS.fullmatch(offered):
        return offered.decode("ascii")
    return str(uuid7())
