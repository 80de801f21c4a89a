"""``innkeeper doctor --mcp``: each thing that goes wrong with a connection is named, and what to do about it."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import socket
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastmcp import FastMCP
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.responses import JSONResponse as Json

from server.diagnosis import protocol
from server.diagnosis.examine import examine
from server.finding import Finding
from tests.server.broken_mcp import TOKEN, Broken, redirect
from tests.server.command import run
from tests.server.edge_services import served

pytestmark = pytest.mark.promise("IDN-40")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return kept(tmp_path, TOKEN)


def kept(folder: Path, token: str) -> Path:
    file = folder / "token"
    file.write_text(token + "\n")
    file.chmod(0o600)
    return file


async def found(url: str, token_file: Path | None = None) -> list[Finding]:
    return [finding async for finding in examine(url, token_file)]


async def of(app: Broken, token_file: Path | None = None, path: str = "/mcp") -> list[Finding]:
    async with served(app) as (host, port):
        return await found(f"http://{host}:{port}{path}", token_file)


def has(findings: list[Finding], subject: str, verdict: str, *words: str) -> bool:
    return any(
        finding.subject == subject and finding.verdict == verdict and all(word in finding.said for word in words)
        for finding in findings
    )


def wrong(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict in ("warn", "fault")]


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_is_wrong_with_a_server_that_is_in_order(token_file: Path, streams: bool) -> None:
    findings = await of(Broken(streams=streams), token_file)
    assert wrong(findings) == []
    subjects = {finding.subject for finding in findings}
    assert subjects >= {"dns", "tcp", "http", "resource", "issuer", "pkce", "registration", "token", "handshake"}
    assert subjects >= {"modern", "tools", "streams", "speed", "origin"}


async def test_nothing_is_wrong_with_a_server_that_wants_no_token() -> None:
    findings = await of(Broken(locked=False, resource=None, server=None))
    assert wrong(findings) == []
    assert has(findings, "tools", "ok", "1 tools")


async def test_without_a_token_the_way_to_one_is_examined_and_no_more() -> None:
    findings = await of(Broken())
    assert wrong(findings) == []
    assert findings[-1].subject == "token"
    assert "--token-file" in findings[-1].said


async def test_a_server_that_asks_for_a_token_after_its_handshake_is_examined_too() -> None:
    findings = await of(Broken(locked=False, late=True, server=None))
    assert has(findings, "challenge", "warn", "no WWW-Authenticate")
    assert has(findings, "issuer", "fault", "no metadata")
    assert has(findings, "token", "note", "--token-file")


METADATA: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"challenge": None}, ("challenge", "warn", "no WWW-Authenticate")),
    ({"challenge": "Bearer"}, ("challenge", "warn", "resource_metadata")),
    ({"challenge": "Bearer", "resource": None}, ("resource", "fault", "no resource metadata")),
    ({"challenge": 'Bearer resource_metadata="{base}/none"'}, ("resource", "fault", "/none, is no JSON object")),
    ({"resource": {"resource": "https://other.example/mcp"}}, ("resource", "fault", "https://other.example/mcp")),
    ({"resource": {"resource": "{base}"}}, ("resource", "warn", "make them equal")),
    ({"resource": {}}, ("resource", "fault", "names no resource:")),
    ({"resource": {"resource": "{base}/mcp"}}, ("resource", "fault", "authorization_servers")),
    ({"server": None}, ("issuer", "fault", "no metadata")),
    ({"server": {"issuer": "{base}/"}}, ("issuer", "warn", "slash")),
    ({"server": {"issuer": "https://elsewhere.example"}}, ("issuer", "fault", "https://elsewhere.example", "8414")),
    ({"server": {"issuer": "{base}"}}, ("issuer", "fault", "no authorization_endpoint and no token_endpoint")),
    ({"server": {"issuer": "{base}"}}, ("pkce", "fault", "S256")),
    (
        {"server": {"issuer": "{base}", "code_challenge_methods_supported": ["plain"]}},
        ("pkce", "fault", "lacks S256"),
    ),
    ({"server": {"issuer": "{base}"}}, ("registration", "fault", "client_id")),
    (
        {"server": {"registration_endpoint": "{base}/r", "token_endpoint_auth_methods_supported": ["private_key_jwt"]}},
        ("registration", "warn", "none"),
    ),
    ({"server": {"authorization_endpoint": "http://auth.example/a"}}, ("issuer", "warn", "https://")),
]


@pytest.mark.parametrize(("knobs", "expected"), METADATA)
async def test_a_broken_way_to_a_token_is_named(knobs: dict[str, Any], expected: tuple[str, ...]) -> None:
    findings = await of(Broken(**knobs))
    subject, verdict, *words = expected
    assert has(findings, subject, verdict, *words), findings


FRONTS: list[tuple[Response, tuple[str, ...]]] = [
    (HTMLResponse("<h1>Welcome</h1>"), ("path", "fault", "web page")),
    (Json({"hello": "world"}), ("path", "fault", "no MCP")),
    (redirect("/mcp/"), ("redirect", "fault", "/mcp/", "exactly")),
    (redirect("https://other.example/mcp", 301), ("redirect", "fault", "https://other.example/mcp")),
    (redirect("/login?next=/mcp", 302), ("redirect", "fault", "page for people")),
    (PlainTextResponse("Invalid Host header", 421), ("host", "fault", "Invalid Host header", "allowed hosts")),
    (PlainTextResponse("Forbidden host", 403), ("host", "fault", "allowed hosts")),
    (
        Json({"jsonrpc": "2.0", "error": {"code": -32000, "message": "Invalid Host: x"}, "id": None}, 403),
        ("host", "fault", "Invalid Host: x"),
    ),
    (PlainTextResponse("blocked", 403), ("http", "fault", "firewall")),
    (PlainTextResponse("no", 400), ("http", "fault", "wrong one (400; no)")),
    (PlainTextResponse("no", 406), ("http", "fault", "Accept")),
    (PlainTextResponse("slow down", 429), ("http", "fault", "too many")),
    (PlainTextResponse("bad gateway", 502), ("http", "fault", "proxy")),
    (PlainTextResponse("Trace\x1b[31mback", 500), ("http", "fault", "fails (500; Trace [31mback)")),
]


@pytest.mark.parametrize(("front", "expected"), FRONTS)
async def test_an_answer_that_is_no_mcp_is_told_for_what_it_is(front: Response, expected: tuple[str, ...]) -> None:
    findings = await of(Broken(front=front))
    subject, verdict, *words = expected
    assert has(findings, subject, verdict, *words), findings
    assert "\x1b" not in str(findings)


async def test_a_wrong_path_is_told_with_the_right_one() -> None:
    app = Broken()
    assert has(await of(app, path="/"), "path", "fault", "nothing at / (404)", "/mcp")
    assert has(await of(Broken(path="/deep/inside")), "path", "fault", "ask whoever runs")


REFUSALS: list[tuple[tuple[int, str, str], tuple[str, ...]]] = [
    ((401, 'Bearer error="invalid_token", error_description="The token expired"', ""), ("token", "has expired")),
    ((401, 'Bearer error="invalid_token"', "Wrong audience"), ("token", "for another server")),
    ((401, "Bearer", "nobody knows it"), ("token", "nobody knows it", "sign in again")),
    ((401, "Bearer", ""), ("token", "a proxy may take the Authorization header out")),
    ((403, 'Bearer error="insufficient_scope", scope="files:read"', ""), ("scope", "files:read")),
]


@pytest.mark.parametrize(("refusal", "expected"), REFUSALS)
async def test_a_refused_token_is_told_why(
    refusal: tuple[int, str, str], expected: tuple[str, ...], token_file: Path
) -> None:
    findings = await of(Broken(refusal=refusal), token_file)
    assert has(findings, expected[0], "fault", *expected[1:]), findings
    assert findings[-1].verdict == "fault"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1_000_000_000}, ("expired on 2001-09-09",)),
        ({"nbf": time.time() + 9999}, ("not valid yet", "clock")),
        ({"aud": "https://other.example/mcp"}, ("for https://other.example/mcp", "resource=")),
        ({"aud": ["a", "b"], "exp": time.time() + 9999}, ("for a, b",)),
        ({"sub": "x"}, ("no reason given",)),
    ],
)
async def test_what_a_refused_jwt_says_of_itself_is_told(
    claims: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    body = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    findings = await of(Broken(refusal=(401, "Bearer", "")), kept(tmp_path, f"e30.{body}.c2ln"))
    assert has(findings, "token", "fault", *words), findings
    assert body not in str(findings)


async def test_a_token_that_was_cut_off_is_noticed(tmp_path: Path) -> None:
    findings = await of(Broken(refusal=(401, "Bearer", "unknown")), kept(tmp_path, "ik_at_cut"))
    assert has(findings, "token", "fault", "cut off")


async def test_a_file_that_says_more_than_the_token_is_noticed(tmp_path: Path) -> None:
    file = kept(tmp_path, f'Bearer "{TOKEN}"')
    file.chmod(0o644)
    findings = await of(Broken(), file)
    assert has(findings, "token", "warn", "chmod 600")
    assert has(findings, "token", "note", "Bearer")
    assert has(findings, "token", "warn", "quotes")
    assert has(findings, "token", "ok")


async def test_a_server_that_repeats_the_token_does_not_get_it_shown(token_file: Path) -> None:
    app = Broken(refusal=(401, "Bearer", f"I do not know {TOKEN}"))
    findings = await of(app, token_file)
    assert has(findings, "token", "fault", "I do not know (the token)")
    assert TOKEN not in str(findings)
    assert all("/mcp" in line.split()[0] for line in app.heard if TOKEN in line)


PROTOCOLS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"version": "1999-01-01"}, ("handshake", "fault", "1999-01-01")),
    ({"modern": False}, ("modern", "note", "2026-07-28")),
    ({"legacy": False}, ("handshake", "warn", "2026-07-28 alone")),
    ({"modern": False, "legacy": False}, ("handshake", "fault", "only MCP 2031-01-01")),
    ({"tools": []}, ("tools", "warn", "no tool", "scopes")),
    ({"tools": [{"name": "do it!"}, {"name": "a"}, {"name": "a"}]}, ("tools", "warn", "do it!, a")),
    ({"tools": [{"name": "a", "description": "x" * 200_000}]}, ("tools", "warn", "bytes")),
    ({"streams": True, "stream_headers": {"content-length": "1"}}, ("streams", "warn", "proxy_buffering")),
    ({"streams": True, "stream_headers": {"content-encoding": "identity, x"}}, ("streams", "warn", "compressed")),
    ({"held": True}, ("streams", "warn", "does not begin", "proxy_buffering")),
    ({"origins": False}, ("origin", "warn", "refuses the Origin")),
]


@pytest.mark.parametrize(("knobs", "expected"), PROTOCOLS)
async def test_what_is_wrong_with_the_protocol_is_named(
    knobs: dict[str, Any], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "held" in knobs:
        monkeypatch.setattr(protocol, "STREAM_SECONDS", 0.3)
    findings = await of(Broken(locked=False, **knobs))
    subject, verdict, *words = expected
    assert has(findings, subject, verdict, *words), findings


async def test_a_server_that_answers_nothing_is_told_from_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.diagnosis.examine.SECONDS", 0.3)
    monkeypatch.setattr("server.diagnosis.network.SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        findings = await found(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp")
    assert has(findings, "http", "fault", "the server hangs, or a proxy holds its streams back")


async def test_a_stream_that_gives_signs_of_life_and_no_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def alive() -> AsyncIterator[bytes]:
        yield b": ping\n\n"
        await asyncio.Event().wait()

    monkeypatch.setattr("server.diagnosis.wire.LONGEST", 0.3)
    front = StreamingResponse(alive(), media_type="text/event-stream")
    assert has(await of(Broken(front=front)), "http", "fault", "in pieces, without an end", "hangs")


@pytest.mark.parametrize("stateless", [False, True])
async def test_nothing_is_wrong_with_a_server_of_fastmcp(stateless: bool) -> None:
    """Somebody else's, with sessions and without."""
    there = FastMCP("there")

    @there.tool
    def add(first: int, second: int) -> int:
        return first + second

    app = there.http_app(stateless_http=stateless)
    async with app.router.lifespan_context(app), served(app) as (host, port):
        findings = await found(f"http://{host}:{port}/mcp")
        assert wrong(findings) == []
        assert has(findings, "handshake", "ok", "there")
        assert has(findings, "tools", "ok", "1 tools")
        assert has(await found(f"http://{host}:{port}/mcp/"), "redirect", "fault", "exactly")


async def test_the_transport_of_before_is_told() -> None:
    app = FastMCP("there").http_app(transport="sse")
    async with app.router.lifespan_context(app), served(app) as (host, port):
        assert has(await found(f"http://{host}:{port}/sse"), "path", "fault", "older HTTP+SSE")


async def test_slow_answers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SLOW", 0.0)
    assert has(await of(Broken(locked=False)), "speed", "warn", "give up")


@pytest.mark.parametrize("url", ["mcp.example", "ftp://x/", "http://:80/mcp", "http://x:99999/", "https://a:b@x/mcp"])
async def test_an_address_that_is_none_is_told(url: str) -> None:
    assert [finding.verdict for finding in await found(url)] == ["fault"]


async def test_a_name_that_nobody_knows_and_a_port_that_nobody_opened() -> None:
    assert has(await found("https://nobody.invalid/mcp"), "dns", "fault", "nobody.invalid", "spelling")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        findings = await found(f"http://127.0.0.1:{bound.getsockname()[1]}/mcp")
    assert has(findings, "tcp", "fault", "refused", "start the server")


async def test_tokens_in_the_clear_are_warned_of() -> None:
    assert has(await found("http://nobody.invalid/mcp#part"), "address", "warn", "https://")
    assert has(await found("http://nobody.invalid/mcp#part"), "address", "warn", "'#'")


@asynccontextmanager
async def over_tls(folder: Path, *names: str, days: int = 90) -> AsyncIterator[int]:
    """A port of 127.0.0.1 that shows a certificate of its own for ``names``."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    alternatives = [x509.IPAddress(ipaddress.ip_address(name)) for name in names]
    certificate = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = folder / "pem"
    private = serialization.PrivateFormat.PKCS8
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("name", "days", "trusted", "expected"),
    [
        ("127.0.0.1", 90, False, ("fault", "SSL_CERT_FILE")),
        ("127.0.0.1", -1, True, ("fault", "expired", "renew")),
        ("127.0.0.2", 90, True, ("fault", "other names", "127.0.0.1")),
        ("127.0.0.1", 3, True, ("warn", "renew")),
    ],
)
async def test_a_certificate_that_clients_refuse_is_told(
    name: str, days: int, trusted: bool, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over_tls(tmp_path, name, days=days) as port:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pem"))
        findings = await found(f"https://127.0.0.1:{port}/mcp")
    verdict, *words = expected
    assert has(findings, "tls", verdict, *words), findings


async def test_a_port_with_tls_is_told_to_who_comes_without(tmp_path: Path) -> None:
    async with over_tls(tmp_path, "127.0.0.1") as port:
        assert has(await found(f"http://127.0.0.1:{port}/mcp"), "tls", "fault", "https://")


async def test_a_port_without_tls_is_told() -> None:
    async with served(Broken()) as (host, port):
        assert has(await found(f"https://{host}:{port}/mcp"), "tls", "fault", "http://")


async def test_the_command_prints_each_finding_and_ends_with_1_on_a_fault(token_file: Path, tmp_path: Path) -> None:
    app = Broken(refusal=(401, "Bearer", f"no {TOKEN}"))
    async with served(app) as (host, port):
        url = f"http://{host}:{port}/mcp"
        ended = await run("doctor", "--mcp", url, "--token-file", token_file, "--json", cwd=tmp_path)
        assert ended.code == 1, ended.err
        told = json.loads(ended.out)
        assert told["ok"] is False
        assert told["findings"][-1]["subject"] == "token"
        app.refusal = None
        well = await run("doctor", "--mcp", url, "--token-file", token_file, cwd=tmp_path)
    assert well.code == 0, well.out
    assert "ok     handshake " in well.out
    assert TOKEN not in ended.out + ended.err + well.out + well.err
    missing = await run("doctor", "--mcp", url, "--token-file", tmp_path / "none", cwd=tmp_path)
    assert (missing.code, "cannot be read" in missing.err) == (2, True)
    alone = await run("doctor", "--token-file", token_file, cwd=tmp_path)
    assert (alone.code, "--mcp" in alone.err) == (2, True)
