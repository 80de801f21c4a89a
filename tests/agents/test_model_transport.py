"""What servers do to the client of the operator's models, and what it makes of it: an answer, or a fault in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from agents.model_transport import ModelTransport
from agents.openai_models import http_client
from tests.fakes.raw_server import Asked, Send, always, answer, raw_server

pytestmark = [pytest.mark.promise("RUN-10"), pytest.mark.timeout(60)]
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n"
SOON = httpx2.Timeout(0.1)
MUCH = b"x" * (16 << 20)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(trust_env=False) as found:
        yield found


async def never_more(_asked: Asked, send: Send) -> None:
    await send(CHUNKED)
    await asyncio.Event().wait()


async def takes_nothing(_asked: Asked, _send: Send) -> None:
    await asyncio.Event().wait()


async def test_a_head_may_be_long(client: httpx2.AsyncClient) -> None:
    fields = {f"x-{number}": "value" for number in range(300)} | {"x-long": "v" * (100 << 10)}
    async with raw_server(always(answer(b"{}", **fields))) as server:
        found = await client.post(server.url())
    assert (found.json(), len(found.headers)) == ({}, 303)


async def test_what_breaks_http_in_the_middle_of_an_answer_ends_it(client: httpx2.AsyncClient) -> None:
    begun = asyncio.Event()

    async def breaks(_asked: Asked, send: Send) -> None:
        await send(CHUNKED)
        await begun.wait()
        await send(b"no size\r\n")
        await asyncio.Event().wait()

    async with raw_server(breaks) as server, client.stream("POST", server.url()) as response:
        parts = response.aiter_bytes()
        assert await anext(parts) == b": hi\n\n"
        begun.set()
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(parts)


async def test_what_came_before_a_fault_is_read_before_it_is_told(client: httpx2.AsyncClient) -> None:
    events = b": hi\n\n" * 50_000
    cut_off = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000000\r\n\r\n"
    heard = bytearray()

    async def listen(response: httpx2.Response) -> None:
        async for part in response.aiter_bytes():
            heard.extend(part)

    async with raw_server(always(cut_off + events)) as server, client.stream("POST", server.url()) as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            await listen(response)
    assert heard == events


async def test_who_does_not_take_a_request_has_not_answered_in_time(client: httpx2.AsyncClient) -> None:
    async with raw_server(takes_nothing) as server:
        with pytest.raises(httpx2.TimeoutException):
            await client.post(server.url(), content=MUCH, timeout=SOON)


async def test_a_refusal_of_a_long_request_is_heard_while_it_is_sent(client: httpx2.AsyncClient) -> None:
    async with raw_server(always(answer(b"{}", status="413 Too Long"))) as server:
        assert (await client.post(server.url(), content=MUCH)).status_code == 413


async def test_a_kept_connection_that_the_server_has_closed_is_not_asked_on(client: httpx2.AsyncClient) -> None:
    async with raw_server(always(answer())) as server:
        for _ in range(20):
            assert (await client.post(server.url(), content=b"{}")).json() == {}
        assert len(server.asked) == 20


async def test_closing_ends_what_is_being_read(client: httpx2.AsyncClient) -> None:
    async with raw_server(never_more) as server, client.stream("POST", server.url()) as response:
        parts = response.aiter_bytes()
        assert await anext(parts) == b": hi\n\n"
        rest = asyncio.create_task(anext(parts))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(httpx2.RemoteProtocolError):
            await rest


async def test_proxies_of_the_environment_are_for_the_world_outside(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(always(answer(b"{}", status="502 Proxy"))) as proxy, raw_server(always(answer())) as server:
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        monkeypatch.setenv("ftp_proxy", proxy.url())
        async with http_client(trust_env=True) as outside:
            assert isinstance(outside._transport, ModelTransport)
            assert (await outside.post(server.url())).status_code == 200
        monkeypatch.setenv("http_proxy", proxy.url())
        async with http_client(trust_env=True) as outside:
            assert (await outside.post("http://model.invalid/")).status_code == 502
        assert (await client.post(server.url())).status_code == 200
