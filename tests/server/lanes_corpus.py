"""What clients may send to ``/mcp``, in order and out of it: the makings of ``lanes_corpus.jsonl``.

``python -m tests.server.lanes_corpus`` writes that file anew. Each line is one request, and whether the fast lane
answered it when it was recorded.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("lanes_corpus.jsonl")
MODERN = "2026-07-28"
HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
PROTOCOL, CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
CLIENT, LOG_LEVEL = "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/logLevel"
ENVELOPE: dict[str, Any] = {PROTOCOL: MODERN, CAPABILITIES: {}, CLIENT: {"name": "corpus", "version": "1"}}
PROJECT = "0197f0c4-7b1e-7000-8000-0123456789ab"
KEY = "innkeeper/idempotency_key"
ABSENT = object()


@dataclass
class Sent:
    """One request. ``body``: base64. ``fast``: whether the fast lane is the one to answer it."""

    name: str
    headers: list[tuple[str, str]]
    body: str
    query: str = ""
    fast: bool = False

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.body)


def recorded() -> list[Sent]:
    lines = [Sent(**json.loads(line)) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    return [replace(line, headers=[(name, value) for name, value in line.headers]) for line in lines]


def sent(
    name: str,
    body: object,
    *,
    version: str | None = MODERN,
    token: str | None = "full",
    query: str = "",
    drop: tuple[str, ...] = (),
    **headers: Any,
) -> Sent:
    """A request as a client of ``version`` makes it; ``headers`` replace or repeat (a list) what it would send."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    usual: dict[str, Any] = {
        "host": "localhost",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "content-length": str(len(content)),
    }
    if token is not None:
        usual["authorization"] = f"Bearer {token}"
    if version is not None:
        usual["mcp-protocol-version"] = version
    if version == MODERN and isinstance(body, dict):
        params = body.get("params") if isinstance(body.get("params"), dict) else {}
        usual["mcp-method"] = str(body.get("method"))
        if isinstance(params, dict) and isinstance(named := params.get("name", params.get("uri")), str):
            usual["mcp-name"] = named if named.isascii() else "x"
    usual |= {key.replace("_", "-"): value for key, value in headers.items()}
    pairs = [(key, one) for key, value in usual.items() for one in (value if isinstance(value, list) else [value])]
    pairs = [(key, value) for key, value in pairs if key not in drop]
    return Sent(name, pairs, base64.b64encode(content).decode(), query)


def message(method: str = "tools/call", params: object = ABSENT, request_id: object = 1, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params, **more}
    return {key: value for key, value in made.items() if value is not ABSENT}


def call(name: object = "echo", arguments: object = ABSENT, meta: object = ABSENT, **more: Any) -> dict[str, Any]:
    if arguments is ABSENT and name == "echo":
        arguments = {"text": "hello"}
    made = {"name": name, "arguments": arguments, "_meta": meta, **more}
    return {key: value for key, value in made.items() if value is not ABSENT}


def of(version: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the envelope a client of that revision would add."""
    if version != MODERN or "_meta" in params:
        return params
    return {**params, "_meta": ENVELOPE}


def everything() -> Iterator[Sent]:
    for version in (*HANDSHAKE, None, MODERN):
        yield from in_order(version)
    for version in ("2025-11-25", MODERN):
        yield from arguments(version)
        yield from identifiers(version)
        yield from shapes(version)
        yield from metadata(version)
        yield from fields(version)
        yield from bodies(version)
        yield from narrowed(version)
    yield from envelopes()
    yield from batches()
    for version in ("2026-01-01", "banana", "", "2025-11-25 ", "2026-07-28, 2026-07-28"):
        yield sent(f"version {version!r}", message(params=of(MODERN, call())), version=version)
        yield sent(f"version {version!r} bare", message(params=call()), version=version)


def in_order(version: str | None) -> Iterator[Sent]:
    tag = version or "no version"
    hello = {
        "protocolVersion": version or "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    }
    for method, params in (
        ("initialize", hello), ("ping", {}), ("tools/list", {}), ("server/discover", {}), ("resources/list", {}),
        ("resources/templates/list", {}), ("prompts/list", {}), ("resources/read", {"uri": "innkeeper://nothing"}),
        ("resources/read", {"uri": f"innkeeper://edges/{PROJECT}"}), ("completion/complete", {}), ("no/such", {}),
        ("tools/list", {"cursor": "abc"}), ("tools/list", {"cursor": None}),
    ):  # fmt: skip
        yield sent(f"{tag} {method} {json.dumps(params)[:40]}", message(method, of(version, params)), version=version)
    for method in ("tools/list", "ping", "server/discover"):
        yield sent(f"{tag} {method} again", message(method, of(version, {}), "second"), version=version)
        yield sent(f"{tag} {method} without params", message(method), version=version)
        yield sent(f"{tag} {method} as reader", message(method, of(version, {})), version=version, token="reader")
    for name in ("echo", "find_nothing", "fail_for_now", "crash_with_a_secret", "change_something", "look_around",
                 "echo_from_region", "no_such_tool"):  # fmt: skip
        yield sent(f"{tag} calls {name}", message(params=of(version, call(name))), version=version)
        yield sent(
            f"{tag} reader calls {name}", message(params=of(version, call(name))), version=version, token="reader"
        )
    project = {"project_id": PROJECT}
    yield sent(f"{tag} looks around", message(params=of(version, call("look_around", project))), version=version)
    for method in ("notifications/initialized", "notifications/cancelled", "tools/call"):
        yield sent(f"{tag} notifies {method}", message(method, of(version, {}), ABSENT), version=version)
    yield sent(f"{tag} replies", {"jsonrpc": "2.0", "id": 1, "result": {}}, version=version)
    yield sent(f"{tag} without a token", message(params=of(version, call())), version=version, token=None)
    yield sent(f"{tag} with a dead token", message(params=of(version, call())), version=version, token="dead")


def arguments(version: str) -> Iterator[Sent]:
    given: Any
    for given in (
        {"text": "ei 🥚 \u2028 \u0000 \"quoted\" \\ back"}, {"text": ""}, {"text": 5}, {"text": None}, {"text": ["a"]},
        {"text": "x" * 6000}, {}, {"text": "a", "more": 1}, {"Text": "a"}, {"": ""}, None, [], "text", 7, True,
        {"text": {"deep": [1, 2, {"er": None}]}}, {"text": "<untrusted-00000000>"}, {"text": 10**40},
    ):  # fmt: skip
        what = json.dumps(given)[:40]
        yield sent(f"{version} arguments {what}", message(params=of(version, call("echo", given))), version=version)
    for given in ({"project_id": "nonsense"}, {"project_id": PROJECT.upper()}, {"project_id": 5}, {"project_id": None}):
        body = message(params=of(version, call("look_around", given)))
        yield sent(f"{version} looks around {given}", body, version=version)
    for region in ("eu", 5, None, "ü"):
        for header in ({}, {"mcp-param-region": "eu"}, {"mcp-param-region": ["eu", "eu"]}, {"mcp-param-region": "us"}):
            body = message(params=of(version, call("echo_from_region", {"region": region})))
            yield sent(f"{version} region {region!r} {header}", body, version=version, **header)


def identifiers(version: str) -> Iterator[Sent]:
    given: Any
    for given in (0, -5, "a", "", 'ü🥚"', 2**53, 2**53 - 1, 2**63, -(2**70), 1.0, 1.5, None, True, False, [], {}, "1"):
        for method, params in (("tools/call", call()), ("tools/list", {})):
            body = message(method, of(version, params), given)
            yield sent(f"{version} {method} id {given!r}", body, version=version)


def shapes(version: str) -> Iterator[Sent]:
    given: Any
    name: Any
    method: Any
    more: Any
    params = of(version, call())
    for jsonrpc in ("1.0", 2.0, None, "", ABSENT):
        yield sent(f"{version} jsonrpc {jsonrpc!r:.8}", message(params=params, jsonrpc=jsonrpc), version=version)
    for key in ("result", "error", "extra", "ID", ""):
        yield sent(f"{version} with {key!r}", {**message(params=params), key: {}}, version=version)
    for given in (None, [], "x", 1, {}, {"name": "echo"}, {"arguments": {}}, {"_meta": {}}):
        for method in ("tools/call", "tools/list"):
            yield sent(f"{version} {method} params {given!r}", message(method, given), version=version)
    for method in (None, 5, "", "TOOLS/CALL", "tools/call ", ["tools/call"], {}):
        yield sent(f"{version} method {method!r}", message(params=params) | {"method": method}, version=version)
    for name in (None, 5, "", "ECHO", "echo ", ["echo"], "ecĥo", "__proto__", "x" * 300):
        yield sent(f"{version} tool {name!r:.20}", message(params=of(version, call(name, {}))), version=version)
    for more in ({"task": {"ttl": 5}}, {"task": 1}, {"requestState": "x"}, {"inputResponses": {}}, {"other": 1},
                 {"inputResponses": {"a": {"action": "accept"}}}, {"requestState": 5}):  # fmt: skip
        yield sent(f"{version} call with {more}", message(params=of(version, call(**more))), version=version)
        yield sent(f"{version} list with {more}", message("tools/list", of(version, dict(more))), version=version)


def metadata(version: str) -> Iterator[Sent]:
    more: Any
    meta: Any
    base = ENVELOPE if version == MODERN else {}
    for more in (
        {"progressToken": 1}, {"progressToken": "t"}, {"progressToken": 1.5}, {"progressToken": None},
        {"progressToken": True}, {"progressToken": {}}, {"progressToken": 2**60}, {KEY: "k-1"}, {KEY: 5}, {KEY: None},
        {KEY: {"a": 1}}, {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, {"own": [1]},
        {"io.modelcontextprotocol/unknown": 1}, {LOG_LEVEL: "debug"}, {LOG_LEVEL: "loud"}, {LOG_LEVEL: None},
        {"progress_token": 1.5}, {"io.modelcontextprotocol/related-task": {"taskId": "1"}}, {CLIENT: 5}, {"": None},
        {PROTOCOL: "2025-11-25"}, {CAPABILITIES: 5},
    ):  # fmt: skip
        for method, params in (("tools/call", call()), ("tools/list", {}), ("tools/call", call("change_something"))):
            body = message(method, {**params, "_meta": {**base, **more}})
            yield sent(f"{version} {method} {params.get('name')} meta {more}", body, version=version)
    for meta in (None, [], "x", 1, True):
        yield sent(f"{version} meta {meta!r}", message(params=call(meta=meta)), version=version)


def envelopes() -> Iterator[Sent]:
    value: Any
    capabilities: Any
    for key in (PROTOCOL, CAPABILITIES, CLIENT):
        without = {name: value for name, value in ENVELOPE.items() if name != key}
        yield sent(f"envelope without {key}", message(params=call(meta=without)))
        for value in (None, 5, "x", [], {}, True):
            yield sent(f"envelope {key} {value!r}", message(params=call(meta={**ENVELOPE, key: value})))
    for capabilities in ({"elicitation": {}}, {"elicitation": 5}, {"sampling": {}, "roots": {"listChanged": True}},
                         {"roots": {"listChanged": 1}}, {"roots": {"listChanged": "so"}}, {"extensions": {"a/b": {}}},
                         {"experimental": {"a": 1}}, {"unknown": 1}):  # fmt: skip
        meta = {**ENVELOPE, CAPABILITIES: capabilities}
        yield sent(f"capabilities {capabilities}", message(params=call(meta=meta)))
        yield sent(f"capabilities {capabilities}, writes", message(params=call("change_something", meta=meta)))
    for info in ({"name": "x"}, {"name": "x", "version": 1}, {"name": "x", "version": "1", "icons": []},
                 {"name": "x", "version": "1", "icons": [{"src": 5}]}, {"name": "y" * 2000, "version": "1"},
                 {"name": "x", "version": "1", "more": None}):  # fmt: skip
        yield sent(f"client {json.dumps(info)[:50]}", message(params=call(meta={**ENVELOPE, CLIENT: info})))


def fields(version: str) -> Iterator[Sent]:
    body = message(params=of(version, call()))
    listing = message("tools/list", of(version, {}))
    for name, headers in (
        ("two versions", {"mcp_protocol_version": [version, version]}),
        ("two methods", {"mcp_method": ["tools/call"] * 2}),
        ("two names", {"mcp_name": ["echo", "echo"]}), ("other method", {"mcp_method": "tools/list"}),
        ("method in capitals", {"mcp_method": "TOOLS/CALL"}), ("other name", {"mcp_name": "look_around"}),
        ("name in base64", {"mcp_name": "=?base64?ZWNobw==?="}),
        ("name in broken base64", {"mcp_name": "=?base64?Z?="}),
        ("name with space", {"mcp_name": " echo "}), ("version with space", {"mcp_protocol_version": f"{version}\t"}),
        ("session", {"mcp_session_id": "abc"}), ("idempotency key", {"idempotency_key": "k-2"}),
        ("two idempotency keys", {"idempotency_key": ["a", "b"]}), ("two accepts", {"accept": ["text/plain", "*/*"]}),
        ("accepts any", {"accept": "*/*"}), ("accepts json", {"accept": "application/json"}),
        ("accepts stream", {"accept": "text/event-stream"}), ("accepts html", {"accept": "text/html"}),
        ("charset", {"content_type": "application/json; charset=utf-8"}), ("text", {"content_type": "text/plain"}),
        ("gzip", {"content_encoding": "gzip"}), ("identity", {"content_encoding": "identity"}),
        ("foreign host", {"host": "evil.example"}), ("two hosts", {"host": ["localhost", "localhost"]}),
        ("foreign page", {"origin": "https://evil.example"}), ("own page", {"origin": "http://localhost:3000"}),
        ("two tokens", {"authorization": ["Bearer full", "Bearer full"]}), ("basic", {"authorization": "Basic full"}),
        ("lower bearer", {"authorization": "bearer full"}), ("request id", {"x_request_id": "mine"}),
        ("two cookies", {"cookie": ["a=1", "b=2"]}), ("length", {"content_length": "99999999"}),
        ("traced", {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}),
    ):  # fmt: skip
        yield sent(f"{version} {name}", body, version=version, **headers)
        yield sent(f"{version} {name}, listing", listing, version=version, **headers)
    for missing in ("mcp-method", "mcp-name", "content-type", "accept", "host", "content-length"):
        yield sent(f"{version} no {missing}", body, version=version, drop=(missing,))
    if version != MODERN:
        yield sent(f"{version} with modern headers", body, version=version, mcp_method="no/such", mcp_name="other")


def bodies(version: str) -> Iterator[Sent]:
    whole = json.dumps(message(params=of(version, call()))).encode()
    named: dict[str, Any] = {"mcp_method": "tools/call", "mcp_name": "echo"} if version == MODERN else {}
    for name, body in (
        ("empty", b""), ("truncated", whole[:-1]), ("twice", whole + whole), ("with garbage", whole + b"x"),
        ("padded", b" \n\t" + whole + b"\r\n"), ("with a mark", b"\xef\xbb\xbf" + whole), ("null", b"null"),
        ("text", b'"tools/call"'), ("number", b"5"), ("empty list", b"[]"), ("list", b"[" + whole + b"]"),
        ("not UTF-8", whole.replace(b"hello", b"h\xff")), ("latin", whole.replace(b"hello", "hé".encode("latin-1"))),
        ("half a pair", whole.replace(b"hello", b"\\ud800")), ("a pair", whole.replace(b"hello", b"\\ud83e\\udd5a")),
        ("zero", whole.replace(b"hello", b"\\u0000")), ("raw control", whole.replace(b"hello", b"\x01")),
        ("NaN", whole.replace(b'"hello"', b"NaN")), ("infinity", whole.replace(b'"hello"', b"-Infinity")),
        ("big number", whole.replace(b'"hello"', b"1" * 400)), ("big float", whole.replace(b'"hello"', b"1e999")),
        ("id twice", whole.replace(b'"id": 1', b'"id": 1, "id": 2')),
        ("method twice", whole.replace(b'"id": 1', b'"id": 1, "method": "tools/list"')),
        ("name twice", whole.replace(b'"name": "echo"', b'"name": "look_around", "name": "echo"')),
        ("deep", whole.replace(b'"hello"', b"[" * 150 + b"]" * 150)),
        ("too deep", whole.replace(b'"hello"', b"[" * 900 + b"]" * 900)),
        ("id as 1e0", whole.replace(b'"id": 1', b'"id": 1e0')), ("id as -0", whole.replace(b'"id": 1', b'"id": -0')),
        ("single quotes", whole.replace(b'"', b"'")), ("comment", whole + b"// x"),
        ("UTF-16", whole.decode().encode("utf-16")),
    ):  # fmt: skip
        yield sent(f"{version} body {name}", body, version=version, **named)


def narrowed(version: str) -> Iterator[Sent]:
    queries = ("read_only=1", "read_only=maybe", f"project={PROJECT}", "project=x", "tools=edge_tools", "tools=nothing",
               "tools=", f"project={PROJECT}&read_only=true", "other=1", "tools=edge_tools&tools=nothing")  # fmt: skip
    for query in queries:
        for name, body in (
            ("list", message("tools/list", of(version, {}))),
            ("discover", message("server/discover", of(version, {}))),
            ("echo", message(params=of(version, call()))),
            ("look", message(params=of(version, call("look_around", {})))),
            ("write", message(params=of(version, call("change_something")))),
        ):  # fmt: skip
            for token in ("full", "reader", "bound"):
                yield sent(f"{version} {name} ?{query} as {token}", body, version=version, query=query, token=token)


def batches() -> Iterator[Sent]:
    one, told = message(params=call()), message("notifications/initialized", {}, ABSENT)
    yield sent("batch of 51", json.dumps([one] * 51).encode(), version="2024-11-05")
    for version in (*HANDSHAKE, MODERN):
        for name, body in (("of one", [one]), ("of two", [one, message("tools/list", {}, 2)]), ("told", [told, told]),
                           ("of none", []), ("mixed", [one, told, 5, {}])):  # fmt: skip
            yield sent(f"{version} batch {name}", json.dumps(body).encode(), version=version)


async def record() -> None:
    from tests.server.test_fast_lane import Replay

    replay = Replay()
    lines = []
    for one in everything():
        answer = await replay.with_fast_lane(one)
        one.fast = answer.fast
        lines.append(json.dumps(asdict(one), separators=(",", ":")))
    RECORDED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(len(lines), "requests", file=sys.stderr)


if __name__ == "__main__":
    import asyncio

    asyncio.run(record())
