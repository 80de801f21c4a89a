"""Structured logs on stderr: one JSON object a line, or readable text on a terminal; secrets are taken out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

from pydantic import BaseModel, SecretStr
from pydantic_core import to_json

from server.outlet import Outlet
from server.terminal import shown

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
_NUMBERS = (bool, int, float)
LONGEST_KEPT = 64
LONGEST_PIECE = 256
MOST_KEPT = 1024
HELD_SECONDS = 0.05
MOST_HELD = 64
_OURS = {"message", "asctime", "color_message", "taskName", "fields"}
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | _OURS


class Redaction:
    """Takes secrets out of text: those that look like one, and those this process was told."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        longest_first = sorted((secret for secret in known if len(secret) >= 8), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _PATTERNS.sub(lambda match: (match["bearer"] or match["url"] or match["query"] or "") + REDACTED, text)


class KnownRecord(logging.LogRecord):
    """A record whose extra fields are known beforehand, so that nobody has to look for them among its attributes."""

    fields: dict[str, object]


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """``time level logger message request_id``, what ``extra=`` carried, and ``exception`` with its traceback.

    Every request writes a line. Short texts in which no secret was found are remembered, for they come again.
    """

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact
        self._harmless: dict[str, str] = {}
        self._second = (0, "")
        self.pieces: dict[tuple[str | None, ...], str] = {}
        """Parts of lines that come again: at most ``MOST_KEPT``."""

    def format(self, record: logging.LogRecord) -> str:
        harmless = self._harmless
        message = record.getMessage()
        line: dict[str, object] = {
            "time": self.clock(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message if message in harmless else self._clean(message),
        }
        if current := request_id.get():
            line["request_id"] = current
        fields = record.fields if isinstance(record, KnownRecord) else _extra(record)
        for name, value in fields.items():
            kind = type(value)
            plain = kind is int or kind is float or (kind is str and value in harmless)
            line[name] = value if plain else self._clean(value)
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))
        return _spelled(line)

    def keep(self, key: tuple[str | None, ...], piece: str) -> None:
        """Put a part of a line among the ``pieces``, if it is short."""
        if len(piece) <= LONGEST_PIECE:
            if len(self.pieces) >= MOST_KEPT:
                self.pieces.clear()
            self.pieces[key] = piece

    def spelled(self, value: object) -> str:
        """A value without secrets, as JSON."""
        if type(value) is str:
            return self._harmless.get(value) or _spelled(self._clean(value))
        return "null" if value is None else _spelled(self._clean(value))

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, _NUMBERS):
            return value
        text = str(value)
        clean = self._redact(text)
        if clean == text and len(text) <= LONGEST_KEPT:
            if len(self._harmless) >= MOST_KEPT:
                self._harmless.clear()
            self._harmless[text] = _spelled(text)
        return clean

    def clock(self, created: float) -> str:
        """As ``isoformat(timespec="milliseconds")``, which is asked once a second."""
        second = int(created)
        if second != self._second[0]:
            self._second = (second, datetime.fromtimestamp(second, UTC).isoformat()[:-6])
        return f"{self._second[1]}.{int((created - second) * 1000):03d}+00:00"


def _spelled(value: object) -> str:
    try:
        return to_json(value).decode()
    except ValueError:  # half a surrogate pair, which is text to Python and to nobody else
        return json.dumps(value)


class LineHandler(logging.Handler):
    """Passes records on at once, and the lines of requests, of which there are many, some together.

    A held line goes out with the next record, after ``HELD_SECONDS``, as one of ``MOST_HELD``, or when the process
    ends, whichever comes first. So lines keep their order; only a process that is killed loses some, and one whose log
    nobody reads (:mod:`server.outlet`).
    """

    direct: JsonFormatter | None = None
    """What spells lines at ``info`` that need no record."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._outlet = _outlet_of(stream, self._missing)
        # Its appends and pops are whole without a lock, whichever thread makes them.
        self._held: deque[tuple[Callable[..., str], tuple[object, ...]]] = deque()

    def hold(self, spell: Callable[..., str], *said: object) -> None:
        """Write ``spell(*said)`` soon, and spell it only then: many in a row cost less than one at a time. Called in an
        event loop."""
        self._held.append((spell, said))
        held = len(self._held)
        if held == 1:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self.let_go)
        elif held >= MOST_HELD:
            self.let_go()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001  as every handler does it: what logs must not fail for its log
            self.handleError(record)
            return
        self.let_go()
        self._write(line)

    def let_go(self) -> None:
        """Pass on the lines that are held."""
        self.acquire()
        try:
            held = [self._held.popleft() for _ in range(len(self._held))]
            if held:
                self._write("".join([spell(*said) + "\n" for spell, said in held]))
        finally:
            self.release()

    def flush(self) -> None:
        """Pass everything on and give it a moment to get out. For the end of the process."""
        self.let_go()
        if self._outlet is not None:
            self._outlet.drain()

    def _write(self, lines: str) -> None:
        if self._outlet is not None:
            self._outlet.write(lines)
            return
        with contextlib.suppress(ValueError, OSError):  # the stream is closed: no request fails for that
            self._stream.write(lines)
            self._stream.flush()

    def _missing(self, lines: int) -> str:
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, "lines of this log are lost", None, None)
        record.lines = lines
        return self.format(record) + "\n"


def _outlet_of(stream: TextIO, missing: Callable[[int], str]) -> Outlet | None:
    """The way out behind a stream; ``None`` for one that is only in memory."""
    try:
        return Outlet(stream.fileno(), missing)
    except (AttributeError, OSError, ValueError):
        return None


def only_listener(logger: logging.Logger) -> LineHandler | None:
    """The handler that holds lines at ``info`` of ``logger``, if nobody else would hear of them and they are JSON."""
    handlers = logging.root.handlers
    if len(handlers) != 1 or logger.handlers:
        return None
    first = handlers[0]
    return first if type(first) is LineHandler and first.direct is not None else None


class TextFormatter(logging.Formatter):
    """``12:00:00 warning  innkeeper.worker  message  name=value``, for people. What others said in it, the path of a
    request above all, makes no line of its own, and tells the terminal nothing."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        extra = _extra(record)
        extra |= {"request_id": current} if (current := request_id.get()) else {}
        line = f"{clock} {record.levelname.lower():<7}  {record.name}  {record.getMessage()}"
        line += "".join(f"  {name}={value}" for name, value in extra.items())
        line = line.replace("\n", "\\n")
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return shown(self._redact(line))


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
    formatter = TextFormatter(redact) if text else JsonFormatter(redact)
    handler = LineHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    if isinstance(formatter, JsonFormatter) and root.level <= logging.INFO:
        handler.direct = formatter
    for chatty in ("alembic", "httpx", "httpx2", "httpcore", "httpcore2", "mcp", "asyncio", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # It tells with a traceback what the lines of innkeeper.db say in a word, each time it tries to connect.
    logging.getLogger("asyncpg.pool").setLevel(max(logging.ERROR, root.level))


def secrets_of(section: BaseModel) -> frozenset[str]:
    """Every secret in the settings, so that none can be logged, whatever it looks like."""
    return frozenset(_secret_values(section))


def _secret_values(section: BaseModel) -> Iterator[str]:
    for value in dict(section).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secret_values(value)
        elif isinstance(value, tuple):
            yield from (one.get_secret_value() for one in value if isinstance(one, SecretStr))
