"""Lines of requests leave together, in order, and none stays behind."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from server import logs
from server.http.access import log_access
from server.logs import MOST_HELD, LineHandler
from server.outlet import MOST_WAITING


def record(message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "a"})


async def test_a_held_line_goes_out_before_the_next_record() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.hold(str, "first")
    assert stream.getvalue() == ""
    handler.handle(record("second"))
    assert stream.getvalue() == "first\nsecond\n"


async def test_held_lines_go_out_by_themselves_and_when_there_are_many() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream)
    for number in range(MOST_HELD):
        handler.hold(str, number)
    assert stream.getvalue().split() == [str(number) for number in range(MOST_HELD)]
    written = asyncio.Event()
    write = stream.write

    def watched(text: str) -> int:
        written.set()
        return write(text)

    stream.write = watched  # type: ignore[method-assign]  # the test waits for it
    handler.hold(str, "last")
    async with asyncio.timeout(60):
        await written.wait()
    assert stream.getvalue().endswith("\nlast\n")


async def test_a_closed_stream_fails_no_request() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.hold(str, "lost")
    stream.close()
    handler.flush()


@pytest.mark.parametrize("blocking", [True, False])
async def test_nobody_waits_for_a_log_that_nobody_reads_and_it_says_what_is_missing(blocking: bool) -> None:
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    try:
        with os.fdopen(write, "w") as stream:
            handler = LineHandler(stream)
            handler.setFormatter(logs.JsonFormatter(logs.Redaction()))
            lines = 3 * MOST_WAITING // 1_000 // MOST_HELD * MOST_HELD
            for number in range(lines):
                handler.hold("{:0999d}".format, number)
            written, lost = await asyncio.to_thread(read_all, read, lines)
            handler.handle(record("again"))
            handler.flush()
            assert os.read(read, 1_000).endswith(b'again"}\n')
    finally:
        os.close(read)
    assert lost
    assert 500 < written < lines


def read_all(descriptor: int, lines: int) -> tuple[int, int]:
    """How many lines arrived and how many are told lost, once they are ``lines`` together; each was in its place."""
    text, written, lost = "", 0, 0
    while written + lost < lines:
        text += os.read(descriptor, 1 << 16).decode()
        *whole, text = text.split("\n")
        for line in whole:
            if line.startswith("{"):
                said = json.loads(line)
                assert said["level"] == "warning"
                lost += said["lines"]
            else:
                assert int(line) == written + lost
                written += 1
    return written, lost


async def test_a_line_without_a_record_says_what_a_record_would_and_no_secret() -> None:
    scope: dict[str, Any] = {
        "method": "POST", "path": '/a"b\n', "client": None,
        "innkeeper.log": {"tool": "correct horse", "ok": True, "half": "\ud800", "count": 2},
    }  # fmt: skip
    said = []
    nobody: list[logging.Handler] = []
    for others in (nobody, [logging.NullHandler()]):
        stream = io.StringIO()
        with configured(stream, others):
            for _ in range(2):
                log_access(scope, "/a", 200, 0.0015)
        said += [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(said) == 4
    for line in said:
        assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
        assert line == {
            "level": "info", "logger": "innkeeper.access", "message": "request", "method": "POST", "path": '/a"b\n',
            "route": "/a", "status": 200, "duration_ms": 1.5, "client": None, "tool": "[redacted]", "ok": True,
            "half": "\ud800", "count": 2, "request_id": "id-1",
        }  # fmt: skip


@contextmanager
def configured(stream: io.StringIO, others: Sequence[logging.Handler]) -> Iterator[None]:
    """Logs as JSON into ``stream``, heard by others too, in the middle of a request."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure("json", secrets=frozenset({"correct horse"}), stream=stream)
    root.handlers += others
    token = logs.request_id.set("id-1")
    try:
        yield
        root.handlers[0].flush()
    finally:
        logs.request_id.reset(token)
        root.handlers[:] = before
        root.setLevel(level)
