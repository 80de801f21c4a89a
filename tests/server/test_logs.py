from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from db.tokens import new_token
from server import logs, terminal
from server.settings import load

SECRET = "n3kS0mVt8cQ1xZ5rB7yL2wE9uJ4hG6fD-apoi"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where logs go during the test; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.promise("HOME-61")
def test_a_line_is_one_json_object_with_the_request_id(stream: io.StringIO) -> None:
    logs.configure("json", stream=stream)
    token = logs.request_id.set("req-1")
    logging.getLogger("innkeeper.x").warning("two\nlines of %s", "text", extra={"status": 503, "path": "/mcp"})
    logs.request_id.reset(token)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "innkeeper.x",
        "message": "two\nlines of text",
        "request_id": "req-1",
        "status": 503,
        "path": "/mcp",
    }


@pytest.mark.promise("HOME-61")
@pytest.mark.parametrize("style", ["json", "text"])
def test_secrets_are_taken_out_wherever_they_stand(stream: io.StringIO, style: str) -> None:
    key = new_token()
    settings = load({"INNKEEPER_ROOT_SECRET": SECRET}, environment="development")
    logs.configure("json" if style == "json" else "text", stream=stream, secrets=logs.secrets_of(settings))
    log = logging.getLogger("innkeeper.x")
    log.info("token %s, Bearer %s", key, "abcdefghijklmnop")
    log.info("at postgresql://user:hunter2hunter2@host/db and /f?name=x&signature=hunter2hunter2")
    log.info("sent", extra={"headers": {"x-api-key": key}, "note": SECRET})
    log.info("sk-proj-hunter2hunter2hunter2")
    try:
        raise ValueError(f"bad key {key}")
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert key not in written
    assert SECRET not in written
    assert "hunter2hunter2" not in written
    assert "abcdefghijklmnop" not in written
    assert "postgresql://user:[redacted]@host/db" in written
    assert "name=x" in written


def test_without_a_style_a_terminal_gets_text_and_everything_else_json(stream: io.StringIO) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    logs.configure(stream=screen)
    logging.getLogger("innkeeper.x").info("hello", extra={"status": 200})
    assert screen.getvalue().rstrip().endswith("info     innkeeper.x  hello  status=200")
    logs.configure(stream=stream)
    logging.getLogger("innkeeper.x").info("hello")
    assert json.loads(stream.getvalue())["message"] == "hello"


def test_what_others_say_makes_no_line_of_its_own_and_tells_a_terminal_nothing(stream: io.StringIO) -> None:
    """In a log for people: JSON has a spelling for all of it."""
    logs.configure("text", stream=stream)
    said = "/x\n12:00:00 error    innkeeper.forged  all is lost\x1b[2J\r\u202e\x9b"
    logging.getLogger("innkeeper.x").info("request", extra={"path": said})
    try:
        raise ValueError(said)
    except ValueError:
        logging.getLogger("innkeeper.x").exception("broken\r")
    written = stream.getvalue()
    assert "request  path=/x\\n12:00:00 error    innkeeper.forged  all is lost\N{REPLACEMENT CHARACTER}[2J" in written
    assert all(letter.isprintable() or letter == "\n" for letter in written)


def test_what_the_commands_print_tells_a_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for write in (terminal.put, terminal.note, terminal.progress()):
        write("Ada\x1b]0;owned\x07\t\u202egnp.exe\nand a second line")
    captured = capsys.readouterr()
    for said in (captured.out, *captured.err.split("line\n")[:2]):
        assert "Ada\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}\t" in said
        assert "gnp.exe\nand a second" in said
        assert "\u202e" not in said


def test_below_the_level_nothing_is_written(stream: io.StringIO) -> None:
    logs.configure("json", "error", stream=stream)
    logging.getLogger("innkeeper.x").warning("quiet")
    assert stream.getvalue() == ""
