"""The guarded client on real sockets. 127.0.0.2 stands for the internet, 127.0.0.1 is the canary nobody may reach."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.errors import AppError
from server.integrations.addresses import Addresses
from server.integrations.guarded_answer import ANYTHING, Limits
from server.integrations.guarded_http import MODELS, Outgoing
from server.integrations.guarded_network import GuardedNetwork
from tests.fakes.outside import PUBLIC_HOST, Names, internet, reaching_loopback
from tests.fakes.raw_server import Asked, Handler, RawServer, Send, always, answer, raw_server
from tests.fakes.tls import authority
from tools.outside import Answered

JSON = ("application/json",)


@pytest.fixture
async def canary() -> AsyncIterator[RawServer]:
    """Listens on loopback. What reaches it has got inside."""
    async with raw_server(always(answer())) as server:
        yield server
        assert server.connections == 0


@asynccontextmanager
async def outside(handler: Handler | bytes) -> AsyncIterator[RawServer]:
    handler = always(handler) if isinstance(handler, bytes) else handler
    async with raw_server(handler, host=PUBLIC_HOST) as server:
        yield server


async def get(outgoing: Outgoing, url: str, **how: Any) -> Answered:
    async with aclosing(outgoing):
        return await outgoing.request("GET", url, **{"accept": JSON, **how})


async def refusal(outgoing: Outgoing, url: str, **how: object) -> AppError:
    with pytest.raises(AppError) as refused:
        await get(outgoing, url, **how)
    said = f"{refused.value.message} {refused.value.hint}"
    assert not re.search(r"\d+\.\d+\.\d+|localhost|::|canary|example", said), said
    return refused.value


def spelled(address: IPv4Address, draw: st.DrawFn) -> str:
    """An IPv4 address as some resolver or parser reads it: octal, hexadecimal, decimal, short, mapped, encoded."""
    number = int(address)
    octets = list(address.packed)
    parts = draw(st.integers(1, 4))
    numbers = [*octets[: parts - 1], number & ((1 << (8 * (5 - parts))) - 1)]
    bases = [draw(st.sampled_from(["{:d}", "0{:o}", "0x{:x}", "0X{:X}", "0x00000{:x}", "000{:o}"])) for _ in numbers]
    plain = ".".join(base.format(part) for base, part in zip(bases, numbers, strict=True))
    high, low = number >> 16, number & 0xFFFF
    return draw(
        st.sampled_from(
            [
                plain,
                f"{plain}.",
                str(address),
                f"[::ffff:{address}]",
                f"[::FFFF:{high:x}:{low:x}]",
                f"[0:0:0:0:0:ffff:{address}]",
                f"[::{address}]",
                f"[64:ff9b::{address}]",
                f"[2002:{high:x}:{low:x}::]",
                f"[::ffff:{address}%25lo]",
                "".join(f"%{ord(character):02x}" for character in str(address)),
                str(address).translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
                str(address).replace(".", "。"),
                f"{address}%00.example.com",
            ]
        )
    )


@st.composite
def inner_urls(draw: st.DrawFn) -> str:
    address = IPv4Address(draw(st.sampled_from(["127.0.0.1", "127.1.2.3", "10.0.0.1", "169.254.169.254", "0.0.0.0"])))
    user = draw(st.sampled_from(["", "user@", "user:word@", "1.1.1.1@", "1.1.1.1%20&@", "example.com\\@"]))
    scheme = draw(st.sampled_from(["http", "http", "https", "HTTP", "ftp"]))
    return f"{scheme}://{user}{spelled(address, draw)}:PORT/"


@pytest.mark.promise("GND-01")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url=inner_urls())
async def test_no_spelling_reaches_the_canary(canary: RawServer, url: str) -> None:
    error = await refusal(Outgoing(Addresses()), url.replace("PORT", str(canary.port)))

    assert error.code == "url_not_allowed"


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "sub.localhost", "[::1]", "[::]", "127.1", "0", "0x7f.1", "017700000001", "2130706433",
     "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "127.0.0.1.", "ⓛocalhost", "①②⑦.0.0.1", "127.0.0.1%2f", "a b", "", "-a",
     "example.com:25", "example.com:0", "example.com:99999", "[fe80::1%25eth0]", "[::1", "256.256.256.256", "*"],
)  # fmt: skip
async def test_what_is_no_public_host_is_refused_before_anything_is_resolved(canary: RawServer, host: str) -> None:
    names = Names({})
    port = "" if re.search(r":\d+$", host) else f":{canary.port}"

    error = await refusal(Outgoing(Addresses(), resolve=names), f"http://{host}{port}/")

    assert (error.code, names.asked) == ("url_not_allowed", [])


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "::1", "::ffff:7f00:1"]
)
async def test_the_socket_itself_is_guarded_whatever_the_url_was(canary: RawServer, host: str) -> None:
    with pytest.raises(AppError) as refused:
        await GuardedNetwork(Addresses()).connect_tcp(host, canary.port, timeout=5)

    assert refused.value.code == "url_not_allowed"


@pytest.mark.promise("GND-01")
async def test_a_name_that_changes_its_answer_is_connected_to_where_it_was_checked(canary: RawServer) -> None:
    names = Names({"rebind.example": [[PUBLIC_HOST], ["127.0.0.1"]]})
    outgoing = internet({"rebind.example": [[PUBLIC_HOST], ["127.0.0.1"]]})
    outgoing._resolve = names
    async with aclosing(outgoing), outside(answer(b'{"from": "outside"}', connection="close")) as server:
        url = server.url(host="rebind.example")
        first = await outgoing.request("GET", url, accept=JSON)
        assert names.asked == ["rebind.example"]  # once for the check and the connection
        with pytest.raises(AppError) as refused:
            await outgoing.request("GET", server.url(host="rebind.example").replace(str(server.port), str(canary.port)))

    assert first.body == b'{"from": "outside"}'
    assert server.asked[0].headers["host"] == f"rebind.example:{server.port}"
    assert refused.value.code == "url_not_allowed"


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], [PUBLIC_HOST, "127.0.0.1"], ["127.0.0.1", PUBLIC_HOST], ["::1"], [], ["nonsense"]]
)
async def test_a_name_with_any_private_address_is_refused_as_one_that_does_not_exist(
    canary: RawServer, answers: list[str]
) -> None:
    outgoing = internet({"mixed.example": [answers]})

    refused = await refusal(outgoing, canary.url(host="mixed.example"))
    absent = await refusal(internet({}), canary.url(host="absent.example"))

    assert (refused.code, refused.message, refused.hint) == (absent.code, absent.message, absent.hint)


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "//127.1:{port}/", "http://inside.example:{port}/",
     "http://u:p@127.0.0.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "file:///etc/passwd", "http://["],
)  # fmt: skip
async def test_a_redirect_leads_nobody_inside(canary: RawServer, location: str) -> None:
    moved = answer(status="302 Found", location=location.format(port=canary.port))
    outgoing = internet({"public.example": [[PUBLIC_HOST]], "inside.example": [["127.0.0.1"]]})

    async with outside(moved) as server:
        error = await refusal(outgoing, server.url(host="public.example"))

    assert error.code in ("url_not_allowed", "remote_bad_answer")
    assert server.connections == 1


@pytest.mark.promise("GND-01")
async def test_redirects_are_followed_a_few_times_and_carry_no_key_to_another_origin() -> None:
    async def handler(asked: Asked, send: Send) -> None:
        path = asked.line.split()[1]
        target = {"/one": "/two", "/two": f"http://other.example:{server.port}/three"}.get(path, "")
        if path == "/loop":
            target = "/loop"
        await send(answer(status="302 Found", location=target) if target else answer(b'"here"'))

    keys = {
        "authorization": "Bearer canary-key",
        "x-api-key": "canary-key",
        "x-goog-api-key": "canary-key",
        "cookie": "c",
    }
    async with outside(handler) as server:
        found = await get(internet(), server.url("/one", host="public.example"), headers=keys)
        loop = await refusal(internet(), server.url("/loop", host="public.example"))

    assert (found.body, found.url) == (b'"here"', f"http://other.example:{server.port}/three")
    assert [asked.headers.get("x-api-key") for asked in server.asked[:3]] == ["canary-key", "canary-key", None]
    assert "canary-key" not in str(server.asked[2].headers)
    assert "cookie" not in server.asked[2].headers
    assert server.asked[2].headers["host"].startswith("other.example:")
    assert (loop.code, len(server.asked)) == ("remote_bad_answer", 3 + 4)


@pytest.mark.promise("GND-01")
async def test_what_changes_something_is_not_repeated_elsewhere() -> None:
    async with (
        outside(answer(status="307 Temporary Redirect", location="/again")) as server,
        aclosing(internet()) as out,
    ):
        answered = await out.request("POST", server.url(host="public.example"), body=b"{}")

    assert (answered.status, len(server.asked)) == (307, 1)


@pytest.mark.promise("GND-01")
async def test_a_silent_a_dripping_and_an_endless_other_side_end_in_time() -> None:
    async def silent(_asked: Asked, _send: Send) -> None:
        await asyncio.Event().wait()

    async def stalls(_asked: Asked, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{")
        await asyncio.Event().wait()

    async def drips(_asked: Asked, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await send(b" ")
            await asyncio.sleep(0)

    async def endless(_asked: Asked, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await send(b" " * 65536)

    for handler in (silent, stalls, drips):
        async with outside(handler) as server:
            async with asyncio.timeout(60):
                error = await refusal(internet(), server.url(host="public.example"), seconds=0.2)
            assert (error.code, error.retryable) == ("remote_timeout", True)
    async with outside(endless) as server, asyncio.timeout(60):
        error = await refusal(internet(), server.url(host="public.example"), max_bytes=1 << 20)
    assert error.code == "remote_too_large"


def _bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), 9)


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (_bomb(50 << 20), {"content_encoding": "gzip"}),
        (zlib.compress(bytes(50 << 20), 9), {"content_encoding": "deflate"}),
        (b"x" * 2000, {"content_length": ""}),
        (b"x", {"content_length": "999999999"}),
    ],
)
async def test_too_much_is_refused_packed_and_unpacked(body: bytes, headers: dict[str, str]) -> None:
    limit = 1000 if len(body) == 2000 else 1 << 20
    async with outside(answer(body, **headers)) as server:
        error = await refusal(internet(), server.url(host="public.example"), max_bytes=limit)

    assert error.code == "remote_too_large"


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300_000])
async def test_packed_content_comes_out_whole(size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = {
        "gzip": gzip.compress(content),
        "deflate": zlib.compress(content),
        "x-gzip": gzip.compress(content, 1),
        "identity": content,
    }
    for encoding, body in [*packed.items(), ("deflate", bare.compress(content) + bare.flush())]:
        async with outside(answer(body, content_encoding=encoding)) as server:
            found = await get(internet(), server.url(host="public.example"))
        assert found.body == content
        assert "content-encoding" not in found.headers


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (answer(content_type="text/html"), "remote_wrong_type"),
        (answer(content_type=""), "remote_wrong_type"),
        (answer(b"x", content_encoding="br"), "remote_wrong_type"),
        (answer(b"not gzip", content_encoding="gzip"), "remote_bad_answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "remote_bad_answer"),
        (b"", "remote_bad_answer"),
    ],
)
async def test_what_is_not_of_the_kind_that_was_asked_for_is_refused(data: bytes, code: str) -> None:
    async with outside(data) as server:
        assert (await refusal(internet(), server.url(host="public.example"))).code == code


async def test_an_error_of_the_other_side_is_an_answer_of_any_kind() -> None:
    async with outside(answer(b"<p>gone", status="410 Gone", content_type="text/html; charset=utf-8")) as server:
        found = await get(internet(), server.url(host="public.example"))

    assert (found.status, found.content_type, found.body) == (410, "text/html", b"<p>gone")


@pytest.mark.promise("GND-01")
async def test_tls_checks_the_name_while_the_address_is_what_was_resolved() -> None:
    issued = authority("public.example")
    async with raw_server(always(answer(b'"safe"')), host=PUBLIC_HOST, tls=issued.server) as server:
        found = await get(internet(trust=issued.client), server.url(host="public.example", scheme="https"))
        wrong = await refusal(internet(trust=issued.client), server.url(host="other.example", scheme="https"))

    assert found.body == b'"safe"'
    assert server.asked[0].headers["host"] == f"public.example:{server.port}"
    assert (wrong.code, len(server.asked)) == ("remote_unreachable", 1)


@pytest.mark.promise("GND-01")
async def test_a_redirect_from_tls_to_plain_is_not_followed() -> None:
    issued = authority("public.example")
    async with outside(answer()) as plain:
        moved = answer(status="301 Moved", location=plain.url(host="public.example"))
        async with raw_server(always(moved), host=PUBLIC_HOST, tls=issued.server) as server:
            error = await refusal(internet(trust=issued.client), server.url(host="public.example", scheme="https"))

    assert (error.code, plain.connections) == ("remote_bad_answer", 0)


@pytest.mark.promise("GND-01")
async def test_proxies_of_the_environment_and_cookies_play_no_part(
    canary: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, canary.url())
    async with aclosing(internet()) as outgoing, outside(answer(set_cookie="a=b; Path=/")) as server:
        for _ in range(2):
            await outgoing.request("GET", server.url(host="public.example"), accept=JSON)

    assert len(server.asked) == 2
    assert not any("cookie" in asked.headers for asked in server.asked)


async def test_a_dead_address_of_a_host_is_passed_over_and_a_dead_host_is_unreachable() -> None:
    both = {"public.example": [["127.0.0.3", PUBLIC_HOST]]}
    outgoing = internet(both)
    outgoing._addresses = reaching_loopback()._addresses
    async with outside(answer()) as server:
        found = await get(outgoing, server.url(host="public.example"))
    dead = await refusal(internet(), server.url(host="public.example"))

    assert found.status == 200
    assert (dead.code, dead.retryable) == ("remote_unreachable", True)


async def test_a_stream_is_handed_on_piece_by_piece() -> None:
    read = asyncio.Event()

    async def handler(_asked: Asked, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await read.wait()
        await send(b"data: 2\n\n")

    async with outside(handler) as server, internet().client(MODELS) as client:
        response = await client.send(client.build_request("GET", server.url(host="public.example")), stream=True)
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"data: 1\n\n"
        read.set()
        assert [piece async for piece in pieces] == [b"data: 2\n\n"]


async def test_faults_of_the_network_stay_what_clients_of_httpx_know() -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx"
    async with internet().client(Limits(ANYTHING)) as client:
        async with outside(cut) as server:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(server.url(host="public.example"))
        with pytest.raises(httpx2.ConnectError) as refused:
            await client.get(server.url(host="public.example"))
    assert "127.0" not in str(refused.value)


@pytest.mark.promise("GND-01")
async def test_an_operator_lets_private_addresses_be_reached() -> None:
    async with raw_server(always(answer())) as server:
        assert (await get(reaching_loopback(), server.url())).status == 200
        assert (await get(reaching_loopback(), server.url(host="localhost"))).status == 200
