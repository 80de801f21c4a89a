"""Structured logs on stderr: one JSON object a line, or readable text on a terminal; secrets are taken out."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

from pydantic import BaseModel, SecretStr

request_id: ContextVar[str | None] = ContextVar("innkeeper_request_id", default=None)
"""Set by the HTTP edge for the time of a request; every line logged meanwhile carries it."""

REDACTED = "[redacted]"
_PATTERNS = re.compile(
    r"(?P<bearer>(?i:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<url>://[^\s/:@]*:)[^\s/@]+(?=@)"
    r"|(?P<query>(?i:[?&](?:token|key|api_key|signature|sig|code|secret|password|x-amz-signature|x-amz-credential)=))"
    r"[^\s&#\"']+"
    r"|\bik_[a-z]{2,4}_[A-Za-z0-9]{8,}"
    r"|\b(?:sk|pk|rk|re|phc|gsk)[-_](?:[a-z]+[-_])*[A-Za-z0-9]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}


class Redaction:
    """Takes secrets out of text: those that look like one, and those this process was told."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        longest_first = sorted((secret for secret in known if len(secret) >= 8), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _PATTERNS.sub(lambda match: (match["bearer"] or match["url"] or match["query"] or "") + REDACTED, text)


class JsonFormatter(logging.Formatter):
    """``time level logger message request_id``, what ``extra=`` carried, and ``exception`` with its traceback."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if current := request_id.get():
            line["request_id"] = current
        line |= {name: self._clean(value) for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _clean(self, value: object) -> object:
        return value if isinstance(value, bool | int | float | None) else self._redact(str(value))


class TextFormatter(logging.Formatter):
    """``12:00:00 warning  innkeeper.worker  message  name=value``, for people."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        extra |= {"request_id": current} if (current := request_id.get()) else {}
        line = f"{clock} {record.levelname.lower():<7}  {record.name}  {record.getMessage()}"
        line += "".join(f"  {name}={value}" for name, value in extra.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return self._redact(line)


def configure(
    style: Literal["json", "text"] | None = None,
    level: str = "info",
    *,
    secrets: frozenset[str] = frozenset(),
    stream: TextIO | None = None,
) -> None:
    """Make the root logger write to ``stream`` (stderr). Without ``style``: text on a terminal, JSON elsewhere."""
    stream = stream or sys.stderr
    redact = Redaction(secrets)
    text = style == "text" if style else stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(redact) if text else JsonFormatter(redact))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("alembic", "httpx", "httpx2", "httpcore", "httpcore2", "mcp", "asyncio", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def secrets_of(section: BaseModel) -> frozenset[str]:
    """Every secret in the settings, so that none can be logged, whatever it looks like."""
    return frozenset(_secret_values(section))


def _secret_values(section: BaseModel) -> Iterator[str]:
    for value in dict(section).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secret_values(value)
