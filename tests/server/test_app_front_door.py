"""What every request gets: an id, clean headers, one log line without secrets, a count, and a safe end."""

import asyncio
import json
import logging
import re

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from server import logs
from server.http.front_door import FrontDoor
from server.metrics import Metrics
from tests.server.edge_services import principal, served

MADE_UP = re.compile(r"[0-9a-f]{16}-[0-9a-f]+")


async def show_scope(scope: Scope, receive: Receive, send: Send) -> None:
    seen = {
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "grant": "innkeeper.principal" in scope,
        "request_id": logs.request_id.get(),
    }
    body = json.dumps(seen).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def crash(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the password is hunter2")


async def crash_halfway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("the password is hunter2")


def client(app: ASGIApp) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=FrontDoor(app, Metrics()))
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost")


async def test_a_request_without_an_id_gets_one_that_its_log_lines_share() -> None:
    async with client(show_scope) as http:
        answer = await http.get("/")
    assert MADE_UP.fullmatch(answer.headers["x-request-id"])
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert logs.request_id.get() is None


async def test_a_harmless_offered_id_is_kept() -> None:
    async with client(show_scope) as http:
        answer = await http.get("/", headers={"x-request-id": "trace-1.2:3_4"})
    assert answer.headers["x-request-id"] == "trace-1.2:3_4"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 129, 'quote"', "<script>", "a\tb"])
async def test_an_id_that_could_break_a_log_line_is_replaced(offered: str) -> None:
    async with client(show_scope) as http:
        answer = await http.get("/", headers={"x-request-id": offered})
    assert MADE_UP.fullmatch(answer.headers["x-request-id"])


@pytest.mark.promise("HOME-11")
async def test_white_space_around_header_values_is_stripped_on_a_real_socket() -> None:
    async with served(FrontDoor(show_scope, Metrics())) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"GET / HTTP/1.1\r\nhost: localhost\r\nmcp-name:  echo \t \r\n"
            b"x-request-id: mine \r\nconnection: close\r\n\r\n"
        )
        raw = await reader.read()
        writer.close()
    seen = json.loads(raw.split(b"\r\n\r\n", 1)[1])
    assert ["mcp-name", "echo"] in seen["headers"]
    assert b"x-request-id: mine\r\n" in raw


async def test_a_socket_cannot_bring_a_run_grant() -> None:
    answered: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        answered.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "innkeeper.principal": principal()}
    await FrontDoor(show_scope, Metrics())(scope, None, send)  # type: ignore[arg-type]  # receive is never called
    assert json.loads(answered[1]["body"])["grant"] is False  # type: ignore[arg-type]  # bytes


async def test_a_crash_says_nothing_to_the_caller_and_everything_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with client(crash) as http:
        answer = await http.get("/")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "hunter2" in caplog.text


async def test_a_crash_after_the_first_byte_cuts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with served(FrontDoor(crash_halfway, Metrics())) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        raw = await asyncio.wait_for(reader.read(), 60)
        writer.close()
    assert raw.endswith(b"half")
    assert b"hunter2" not in raw


@pytest.mark.promise("HOME-61")
async def test_the_access_line_has_no_query_string_and_no_header(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "innkeeper.access")
    async with client(show_scope) as http:
        await http.get("/mcp?token=hunter2", headers={"authorization": "Bearer hunter3", "cookie": "hunter4"})
    (record,) = [record for record in caplog.records if record.name == "innkeeper.access"]
    line = json.loads(logs.JsonFormatter(logs.Redaction()).format(record))
    assert line["method"] == "GET"
    assert line["path"] == "/mcp"
    assert line["status"] == 200
    assert line["duration_ms"] >= 0
    assert "hunter" not in json.dumps(line)


async def test_every_answer_carries_the_security_headers_once() -> None:
    async def own_policy(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-security-policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with client(own_policy) as http:
        answer = await http.get("/")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]


async def test_a_vanished_client_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await FrontDoor(cancelled, Metrics())({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]  # unused
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
