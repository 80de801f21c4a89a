"""Bodies, hosts and origins, over a real socket where bytes on the wire are the point."""

import asyncio
import resource
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from server.http.body_limit import MAX_BODY_BYTES, BodyLimit
from server.http.host_guard import HostGuard
from tests.machine import Stopwatch, within
from tests.server.edge_services import served

LIMIT = 1000


async def count_body(scope: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def say_ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def asgi(app: object) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")  # type: ignore[arg-type]  # an ASGI callable


@pytest.mark.promise("HOME-11")
async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with asgi(BodyLimit(count_body, LIMIT)) as client:
        answer = await client.post("/", content=b"x" * LIMIT)
    assert (answer.status_code, answer.text) == (200, str(LIMIT))


@pytest.mark.promise("HOME-11")
async def test_a_declared_length_over_the_limit_is_413_before_the_application_runs() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application ran")

    async with asgi(BodyLimit(never, LIMIT)) as client:
        answer = await client.post("/", content=b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:innkeeper:error:body_too_large"


@pytest.mark.promise("HOME-11")
async def test_a_chunked_body_is_413_at_the_chunk_that_crosses_the_limit() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 100 + 1):
            yield b"x" * 100

    async with asgi(BodyLimit(count_body, LIMIT)) as client:
        answer = await client.post("/", content=chunks())
    assert answer.status_code == 413


@pytest.mark.promise("HOME-11")
async def test_a_gigabyte_in_chunks_is_refused_within_a_second_and_within_bounded_memory() -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    limited = BodyLimit(count_body)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await limited(scope, receive, send)

    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(2**30 // 65536):
            writer.write(chunk)
            await writer.drain()

    async with served(app) as (host, port):

        async def refused() -> float:
            reader, writer = await asyncio.open_connection(host, port)
            watch = Stopwatch()
            pouring = asyncio.create_task(pour(writer))
            status_line = await reader.readline()
            took = watch.seconds()
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            writer.close()
            assert status_line.split()[1] == b"413"
            return took

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await within(1.0, refused)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 * 1024, "kilobytes"


@pytest.mark.promise("HOME-11")
async def test_a_compressed_body_is_415_and_never_unpacked() -> None:
    async with asgi(BodyLimit(count_body)) as client:
        answer = await client.post("/", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "0x10"])
async def test_a_length_that_is_no_number_is_413(length: str) -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", length.encode())]}
    await BodyLimit(count_body)(scope, None, send)  # type: ignore[arg-type]  # receive is never called
    assert sent[0]["status"] == 413


def test_the_limit_is_four_mebibytes() -> None:
    assert MAX_BODY_BYTES == 4 * 1024 * 1024


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8260", "127.0.0.1:1", "[::1]:9", "LOCALHOST:5", "inn.example", "inn.example:443", "a.b"],
)
async def test_a_host_of_ours_is_served(host: str) -> None:
    guard = HostGuard(say_ok, allowed_hosts=["a.b"], public_url="https://inn.example")
    async with asgi(guard) as client:
        for _ in range(2):
            assert (await client.get("/", headers={"host": host})).status_code == 200


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost:80.evil.example",
        "localhost:",
        "127.0.0.1:8260@evil",
        "",
        "::1",
        "a.b:x",
    ],
)
async def test_a_host_that_is_not_ours_is_421(host: str) -> None:
    guard = HostGuard(say_ok, allowed_hosts=["a.b"], public_url="https://inn.example")
    async with asgi(guard) as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["hint"]


@pytest.mark.promise("HOME-11")
async def test_a_request_with_two_hosts_or_none_is_421() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    for headers in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        await HostGuard(say_ok)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]  # unused
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [421, 421]


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://[::1]:6274", 200),
        ("https://app.example", 200),
        ("https://inn.example", 200),
        ("https://evil.example", 403),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost:3000.evil.example", 403),
        ("null", 403),
        ("file://localhost", 403),
    ],
)
async def test_only_pages_of_allowed_origins_may_call(origin: str, status: int) -> None:
    guard = HostGuard(say_ok, allowed_origins=["https://app.example"], public_url="https://inn.example/")
    async with asgi(guard) as client:
        for _ in range(2):
            assert (await client.get("/", headers={"origin": origin})).status_code == status


async def test_remembered_hosts_stay_few_however_many_are_sent() -> None:
    guard = HostGuard(say_ok)
    async with asgi(guard) as client:
        for port in range(300):
            await client.get("/", headers={"host": f"localhost:{port}"})
            await client.get("/", headers={"host": f"evil{port}.example"})
    assert len(guard._known_hosts) <= 256


async def test_lifespan_passes_the_guards() -> None:
    app = HostGuard(BodyLimit(Starlette()))
    done: list[str] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    async def send(message: dict[str, str]) -> None:
        done.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)  # type: ignore[arg-type]  # minimal ASGI
    assert done == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.promise("RUN-22")
async def test_a_body_of_too_many_values_is_413_and_one_of_long_texts_is_not() -> None:
    async with asgi(BodyLimit(count_body)) as client:
        many = await client.post("/", content=b"[" + b"0," * 50_000 + b"0]")
        text = await client.post("/", content=b'["' + b'\\",[' * 100_000 + b'"]')
    assert many.json()["type"] == "urn:innkeeper:error:too_many_values"
    assert (text.status_code, text.text) == (200, str(400_004))
