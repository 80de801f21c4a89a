"""Lines of requests leave together, in order, and none stays behind."""

from __future__ import annotations

import asyncio
import io
import json
import logging

from server.logs import MOST_HELD, JsonFormatter, LineHandler, Redaction


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
    async with asyncio.timeout(5):
        await written.wait()
    assert stream.getvalue().endswith("\nlast\n")


async def test_a_closed_stream_fails_no_request() -> None:
    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.hold(str, "lost")
    stream.close()
    handler.flush()


def test_a_line_without_a_record_says_what_a_record_would_and_no_secret() -> None:
    formatter = JsonFormatter(Redaction(frozenset({"correct horse"})))
    fields: dict[str, object] = {
        "path": '/a"b\n', "status": 200, "duration_ms": 1.5, "client": None, "tool": "correct horse", "ok": True,
        "half": "\ud800",
    }  # fmt: skip
    for _ in range(2):
        line = json.loads(formatter.line(1.0, "innkeeper.access", "request", "id-1", fields))
        assert line == {
            "time": "1970-01-01T00:00:01.000+00:00", "level": "info", "logger": "innkeeper.access",
            "message": "request", "request_id": "id-1", **fields, "tool": "[redacted]",
        }  # fmt: skip
