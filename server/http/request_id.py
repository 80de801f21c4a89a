"""The id of the request being served: one value that ties an answer, its log lines and a bug report together.

Accepted from ``X-Request-Id`` when it is harmless to print, made up otherwise, always echoed, and found on every log
line through ``server.logs.request_id``. Tasks started by a request inherit it.
"""

from __future__ import annotations

import re
import secrets
from itertools import count

_HARMLESS = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
# Unique, not unguessable: a random name for the process and a number. A UUID would cost a system call a request.
_PROCESS = secrets.token_hex(8)
_NUMBERS = count(1)


def request_id_from(offered: bytes | None) -> str:
    """``offered`` when it is at most 128 characters that can break no log line, else a new one."""
    if offered is not None and _HARMLESS.fullmatch(offered):
        return offered.decode("ascii")
    return f"{_PROCESS}-{next(_NUMBERS):x}"
