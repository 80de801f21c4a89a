"""Whatever a model's endpoint does on the wire, the run ends in a known state, with one terminal event, in time."""

from __future__ import annotations

import asyncio
import json
import resource
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.agents.inn import Inn, Stream, body, inn, run, user
from tests.conftest import DatabaseUrls, Owner, Tenant
from tests.fakes.outside import PUBLIC_HOST, internet
from tests.fakes.raw_server import Asked, RawServer, Send, always, answer, raw_server

pytestmark = pytest.mark.promise("RUN-10")
Wire = Callable[[Send], Awaitable[None]]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BLOCK = b"x" * (1 << 20)


def said(text: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of a chat completion."""
    if text is not None:
        delta["content"] = text
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def sends(*parts: bytes) -> Wire:
    """An answer that ends, after these bytes, with the connection."""

    async def wire(send: Send) -> None:
        await send(b"".join((STREAM, *parts)))

    return wire


def resets(*parts: bytes) -> Wire:
    """An answer of which more was promised than comes."""

    async def wire(send: Send) -> None:
        await send(b"".join((STREAM[:-2], b"content-length: 100000\r\n\r\n", *parts)))

    return wire


def stands_still(*parts: bytes) -> Wire:
    async def wire(send: Send) -> None:
        if parts:
            await send(b"".join((STREAM, *parts)))
        await asyncio.Event().wait()

    return wire


def status(code: int, kind: str | None = None, **headers: str) -> Wire:
    text = json.dumps({"error": {"message": "sk-LEAK", "type": kind, "code": kind}}).encode()

    async def wire(send: Send) -> None:
        await send(answer(text, status=f"{code} Whatever", **headers))

    return wire


async def endless_line(send: Send) -> None:
    await send(STREAM + b"data: ")
    for _ in range(100):
        await send(BLOCK)
    await send(b"\n\n")


async def as_json(send: Send) -> None:
    await send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    for _ in range(100):
        await send(BLOCK)


async def packed(send: Send) -> None:
    packing = zlib.compressobj(1, wbits=31)
    await send(STREAM[:-2] + b"content-encoding: gzip\r\n\r\n")
    for _ in range(100):
        await send(packing.compress(BLOCK))


async def blank_lines(send: Send) -> None:
    await send(STREAM)
    for _ in range(100):
        await send(b"\n" * len(BLOCK))


WORDS = b"".join((said("Hello", role="assistant"), said(finish="stop"), b"data: [DONE]\n\n"))
HELLO = sends(WORDS)


@asynccontextmanager
async def endpoint(*answers: Wire) -> AsyncIterator[RawServer]:
    """Each request gets the next of ``answers``, and the last from then on."""
    coming: Iterator[Wire] = iter(answers)
    last = answers[-1]

    async def handler(_asked: Asked, send: Send) -> None:
        await next(coming, last)(send)

    async with raw_server(handler) as server:
        yield server


async def asked(
    owner: Owner, house: Inn, tenant: Tenant, server: RawServer, patience: float = 30, **agent: Any
) -> Stream:
    """A run whose project has its model at ``server``, for which it waits so many seconds."""
    await owner.execute(
        "UPDATE projects SET model = 'm', base_url = $1, model_parameters = $2",
        *(server.url("/v1"), json.dumps({"timeout": patience})),
    )
    for name, value in agent.items():
        await owner.execute(f"UPDATE agents SET {name} = $1", value)
    await house.engine.warm()
    async with asyncio.timeout(60):
        stream = await run(house, tenant.token, body(user("Hello"), thread="t"))
    assert stream.types.count("RUN_ERROR") + stream.types.count("RUN_FINISHED") == 1
    assert "LEAK" not in stream.raw.decode()
    return stream


FAULTS: dict[str, tuple[Wire, str, int, str]] = {
    # What goes on on the wire: with which code the run ends, how many requests it made, and what it has said.
    "hangs": (stands_still(), "model_timeout", 1, ""),
    "accepts and hangs": (stands_still(b""), "model_timeout", 1, ""),
    "stalls": (stands_still(said("Half")), "model_timeout", 1, "Half"),
    "resets in mid-JSON": (resets(said("Half"), said("other half")[:40]), "model_unavailable", 1, "Half"),
    "resets in mid-JSON at once": (resets(said("Half")[:40]), "model_unavailable", 3, ""),
    "ends in mid-JSON": (sends(said("Half"), said("other half")[:40]), "model_bad_response", 1, "Half"),
    "ends in mid-JSON at once": (sends(said("Half")[:40]), "model_bad_response", 3, ""),
    "malformed": (sends(said("Half"), b'data: {"choices": [{"delta": {"content"\n\n'), "model_bad_response", 1, "Half"),
    "malformed at once": (sends(b"data: <html>\n\n"), "model_bad_response", 3, ""),
    "no UTF-8": (sends(said("Half"), b'data: {"choices": "\xff\xfe"}\n\n'), "model_bad_response", 1, "Half"),
    "no UTF-8 at once": (sends(b'data: {"choices": "\xff\xfe"}\n\n'), "model_bad_response", 3, ""),
    "not JSON": (sends(b"data: 17\n\n"), "model_bad_response", 3, ""),
    "context overflow": (status(400, "context_length_exceeded"), "model_context_overflow", 1, ""),
    "refuses": (sends(said(refusal="I will not."), said(finish="stop")), "model_content_filtered", 1, ""),
    "filtered": (sends(said("Well, "), said(finish="content_filter")), "model_content_filtered", 1, "Well, "),
    "filtered at once": (sends(said("", finish="content_filter")), "model_content_filtered", 1, ""),
    "rate limit": (status(429, retry_after="0"), "model_rate_limited", 3, ""),
    "long rate limit": (status(429, retry_after="3600"), "model_rate_limited", 1, ""),
    "401": (status(401), "model_auth_failed", 1, ""),
    "403": (status(403), "model_auth_failed", 1, ""),
    "404": (status(404), "model_not_found", 1, ""),
    "500": (status(500), "model_unavailable", 3, ""),
    "529": (status(529, "overloaded_error"), "model_unavailable", 3, ""),
}


def patience_with(code: str) -> float:
    """Short with what stands still, and long enough for what it says before."""
    return 1.5 if code == "model_timeout" else 30


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_ends_the_run_with_its_own_code(
    house_open: Inn, tenant: Tenant, owner: Owner, fault: str
) -> None:
    wire, code, requests, text = FAULTS[fault]
    async with endpoint(wire) as server:
        stream = await asked(owner, house_open, tenant, server, patience_with(code))
    assert (stream.last.get("code"), len(server.asked), stream.text) == (code, requests, text)
    row = await owner.fetchrow("SELECT status, error_code FROM runs")
    assert row is not None
    assert tuple(row) == ("failed", code)
    async with endpoint(HELLO) as server:
        assert (await asked(owner, house_open, tenant, server)).last["type"] == "RUN_FINISHED"


async def test_an_empty_answer_is_asked_for_once_more_and_then_is_none(
    house_open: Inn, tenant: Tenant, owner: Owner
) -> None:
    empty = sends(said("", role="assistant"), said(finish="stop"), b"data: [DONE]\n\n")
    async with endpoint(empty) as server:
        stream = await asked(owner, house_open, tenant, server)
    assert (stream.last.get("code"), stream.text) == ("model_bad_response", "")
    async with endpoint(empty, HELLO) as server:
        assert (await asked(owner, house_open, tenant, server)).text == "Hello"


async def test_a_line_of_100_mb_is_not_kept(house_open: Inn, urls: DatabaseUrls, tenant: Tenant, owner: Owner) -> None:
    await house_open.engine.warm()
    async with endpoint(endless_line) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stream = await asked(owner, house_open, tenant, server)
        assert stream.last["code"] in ("model_bad_response", "remote_too_large")
    await owner.execute("UPDATE projects SET model = NULL, base_url = NULL")
    async with endpoint(endless_line, as_json, packed, blank_lines) as server:
        async with inn(urls, model_url=server.url("/v1")) as operators, asyncio.timeout(60):
            for _each in range(4):
                stream = await run(operators, tenant.token, body(user("Hello")))
                assert stream.last["code"] == "model_bad_response"
        assert len(server.asked) == 4
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # An answer in one piece may have 64 MiB, which are held twice for a moment; the five of these have 400 MB and more.
    assert grown < 150_000, f"{grown} kB"


async def test_retry_after_is_waited_for_in_seconds_and_as_a_date(
    house_open: Inn, tenant: Tenant, owner: Owner
) -> None:
    clock, times = asyncio.get_running_loop().time, list[float]()

    def busy(says: Callable[[], str]) -> Wire:
        async def wire(send: Send) -> None:
            times.append(clock())
            await status(429, retry_after=says())(send)

        return wire

    def soon() -> str:
        return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)

    async def well(send: Send) -> None:
        times.append(clock())
        await HELLO(send)

    for says in (lambda: "1", soon):
        async with endpoint(busy(says), well) as server:
            stream = await asked(owner, house_open, tenant, server)
        assert (stream.text, len(server.asked)) == ("Hello", 2)
        refused, again = times[-2:]
        assert again - refused > 0.9


@pytest.mark.parametrize("fault", ["hangs", "ends in mid-JSON at once", "malformed at once", "long rate limit", "529"])
async def test_a_fallback_answers_when_the_model_fails_before_its_first_word(
    house_open: Inn, tenant: Tenant, owner: Owner, fault: str
) -> None:
    wire, code, *_ = FAULTS[fault]
    async with endpoint(wire, HELLO) as server:
        models = ["local", "openai-chat:second"]
        stream = await asked(owner, house_open, tenant, server, patience_with(code), fallback_models=models)
    assert (stream.last["type"], stream.text, len(server.asked)) == ("RUN_FINISHED", "Hello", 2)
    assert await owner.fetchval("SELECT model FROM runs") == "openai-chat:second"
    step = json.loads(await owner.fetchval("SELECT value FROM run_steps WHERE name LIKE 'model:%'"))
    assert step["metadata"]["innkeeper"]["model"] == "openai-chat:second"


@pytest.mark.parametrize("fault", ["stalls", "malformed", "no UTF-8", "filtered", "401", "context overflow"])
async def test_no_fallback_is_asked_once_something_was_said_or_where_it_would_be_no_help(
    house_open: Inn, tenant: Tenant, owner: Owner, fault: str
) -> None:
    wire, code, requests, text = FAULTS[fault]
    async with endpoint(wire, HELLO) as server:
        stream = await asked(owner, house_open, tenant, server, patience_with(code), fallback_models=["second"])
    assert (stream.last["code"], len(server.asked), stream.text) == (code, requests, text)


async def test_when_every_model_fails_the_last_ones_fault_is_told(
    house_open: Inn, tenant: Tenant, owner: Owner
) -> None:
    async with endpoint(status(529), stands_still(b"")) as server:
        stream = await asked(owner, house_open, tenant, server, 1.5, fallback_models=["second"])
    assert (stream.last["code"], len(server.asked)) == ("model_timeout", 2)


async def test_a_redirect_of_a_tenants_endpoint_is_not_followed(house_open: Inn, tenant: Tenant, owner: Owner) -> None:
    async with endpoint(HELLO) as inside:
        async with endpoint(status(307, location=inside.url("/v1/chat/completions"))) as server:
            stream = await asked(owner, house_open, tenant, server)
        assert inside.connections == 0
    assert stream.last["type"] == "RUN_ERROR"


async def test_a_name_that_leads_inside_the_second_time_is_not_followed_there(
    urls: DatabaseUrls, tenant: Tenant, owner: Owner
) -> None:
    async with raw_server(always(STREAM + WORDS), host=PUBLIC_HOST) as public:
        guard = internet({"rebinds.example": [[PUBLIC_HOST], ["127.0.0.1"]]})
        async with inn(urls, tenants=guard) as house:
            url = public.url("/v1", host="rebinds.example")
            await owner.execute("UPDATE projects SET model = 'm', base_url = $1", url)
            first = await run(house, tenant.token, body(user("Hello")))
            second = await run(house, tenant.token, body(user("Hello")))
    assert first.text == "Hello"
    assert (second.last["code"], len(public.asked)) == ("url_not_allowed", 1)
