"""MCP itself: both eras of the protocol, the tools, streams, and how long it all takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS

from server.connect.verifying import FIRST
from server.diagnosis import authorization
from server.diagnosis import token as tokens
from server.diagnosis.wire import INITIALIZE, SESSION, VERSION, Reply, Wire, shown
from server.finding import Finding

SLOW: Final = 3.0
STREAM_SECONDS: Final = 5.0
HEAVY: Final = 100_000
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
METHOD_NOT_FOUND: Final = -32601
INVALID_REQUEST: Final = -32600
HOUSE: Final = "innkeeper"


async def examine(wire: Wire) -> AsyncIterator[Finding]:
    """With the token, if there is one."""
    greeted = await wire.call("initialize", INITIALIZE)
    modern = await wire.call_modern("server/discover")
    versions = _offered(modern)
    shared = [version for version in versions if version in MODERN_PROTOCOL_VERSIONS]
    version = (greeted.result or {}).get("protocolVersion")
    if greeted.result is not None:
        yield _version(greeted.result, version)
    elif shared:
        said = f"It speaks {shared[-1]} alone: clients of {LATEST_HANDSHAKE_VERSION} and before cannot connect."
        yield Finding("handshake", "warn", said)
    else:
        yield _no_handshake(greeted, versions, urlsplit(wire.url).query)
        return
    headers = _session(greeted, version)
    if headers and (fault := await _begin(wire, headers)) is not None:
        yield fault
    yield _modern(modern, shared)
    if headers or shared:
        async for finding in _use(wire, greeted, headers):
            yield finding


async def _use(wire: Wire, greeted: Reply, headers: dict[str, str]) -> AsyncIterator[Finding]:
    """``headers``: of the session in the handshake era; none in the modern one."""
    listed = await (wire.call("tools/list", {}, headers) if headers else wire.call_modern("tools/list"))
    if listed.status in (401, 403):
        async for finding in _locked(wire, listed):
            yield finding
        return
    for finding in (*_tools(listed), *await _call(wire, greeted, listed, headers)):
        yield finding
    for finding in await _streams(wire, greeted, headers):
        yield finding
    yield _speed(greeted, listed)
    if SESSION in headers:
        await wire.send("DELETE", None, headers)


def _session(greeted: Reply, version: Any) -> dict[str, str]:
    """What belongs on each request after the handshake; empty where there was none."""
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        return {}
    session = greeted.headers.get(SESSION)
    return {VERSION: str(version), **({SESSION: session} if session else {})}


async def _begin(wire: Wire, headers: dict[str, str]) -> Finding | None:
    told = await wire.notify("notifications/initialized", headers)
    if told.status in (200, 202, 204, 401, 403):
        return None
    said = f"notifications/initialized is answered with {told.status} ({told.said}), not 202: the session may be lost;"
    return Finding("handshake", "fault", f"{said} several processes must share sessions, or need none.")


async def _locked(wire: Wire, listed: Reply) -> AsyncIterator[Finding]:
    """A server that shakes hands with everybody, and asks for a token after that."""
    if wire.token is not None:
        yield tokens.refused(listed, wire.token, wire.url)
        return
    async for finding in authorization.examine(wire, listed, has_token=False):
        yield finding
    yield Finding("token", "note", "Its tools are seen with a token alone: give one with --token-file FILE.")


def _no_handshake(reply: Reply, versions: list[Any], query: str) -> Finding:
    if versions:
        said = f"It speaks only MCP {shown(', '.join(map(str, versions)))}, not known here: update one of the two."
        return Finding("handshake", "fault", said)
    if reply.status == 0:
        return Finding(
            "handshake", "fault", f"The handshake is not answered ({reply.fault}): look at the server's log."
        )
    code = reply.error.get("code")
    why = f"{reply.said or 'no answer of JSON-RPC'}" + (
        f", code {code}" if code is not None else f", status {reply.status}"
    )
    advice = "check what stands behind '?'" if code == INVALID_REQUEST and query else "look at the server's log"
    return Finding("handshake", "fault", f"The handshake fails ({why}): {advice}.")


def _version(result: dict[str, Any], version: Any) -> Finding:
    info = result.get("serverInfo")
    info = info if isinstance(info, dict) else {}
    name = shown(f"{info.get('name', 'a server without a name')} {info.get('version', '')}")
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        said = f"{name} answers {LATEST_HANDSHAKE_VERSION} with MCP {shown(str(version))}, unknown here: update it."
        return Finding("handshake", "fault", said)
    return Finding("handshake", "ok", f"{name}, MCP {version}")


def _offered(reply: Reply) -> list[Any]:
    """The versions that ``server/discover`` names, or the error about an unsupported one."""
    data = reply.error.get("data")
    found = (reply.result or {}).get("supportedVersions") or (data.get("supported") if isinstance(data, dict) else None)
    return found if isinstance(found, list) else []


def _modern(reply: Reply, shared: list[Any]) -> Finding:
    if shared:
        return Finding("modern", "ok", f"MCP {shared[-1]} without a handshake")
    return Finding(
        "modern", "note", f"It does not speak MCP {MODERN_PROTOCOL_VERSIONS[-1]} yet; clients fall back by themselves."
    )


def _tools(reply: Reply) -> list[Finding]:
    found = (reply.result or {}).get("tools")
    if not isinstance(found, list):
        if reply.error.get("code") == METHOD_NOT_FOUND:
            return [Finding("tools", "note", "It offers no tools at all.")]
        why = reply.fault or reply.said or f"status {reply.status}"
        said = f"The tools cannot be listed ({why}): look at the server's log."
        if reply.status in (400, 404):
            said += " A session that is not found again means several processes that do not share sessions."
        return [Finding("tools", "fault", said)]
    if not found:
        said = "It lists no tool: check the scopes of the token, and what the address narrows it to."
        return [Finding("tools", "warn", said)]
    findings = [
        Finding("tools", "ok", f"{len(found)} tools" + (" and more" if "nextCursor" in (reply.result or {}) else ""))
    ]
    names = [str(tool.get("name")) for tool in found if isinstance(tool, dict)]
    odd = [name for name in names if not NAME.fullmatch(name)] + sorted({n for n in names if names.count(n) > 1})
    if odd:
        said = f"Some clients refuse the names {shown(', '.join(odd))}: use 64 letters, digits, '_', '-', each once."
        findings.append(Finding("tools", "warn", said))
    if len(reply.body) > HEAVY:
        said = f"The list has {len(reply.body):,} bytes, which every conversation pays for: narrow the connection."
        findings.append(Finding("tools", "warn", said))
    return findings


async def _call(wire: Wire, greeted: Reply, listed: Reply, headers: dict[str, str]) -> list[Finding]:
    """A call, of our own house alone: of others it is not known what a call costs, whatever they say of it."""
    info = (greeted.result or {}).get("serverInfo")
    tools = (listed.result or {}).get("tools")
    if not isinstance(info, dict) or info.get("name") != HOUSE or not isinstance(tools, list):
        return []
    named = {tool.get("name"): tool for tool in tools if isinstance(tool, dict)}
    fit = (name for name in FIRST if name in named and not named[name].get("inputSchema", {}).get("required"))
    if (name := next(fit, None)) is None:
        return []
    answer = await wire.call("tools/call", {"name": name, "arguments": {}}, headers)
    if answer.result is not None and answer.result.get("isError") is not True:
        return [Finding("call", "ok", f"{name} answered")]
    content = (answer.result or {}).get("content")
    said = " ".join(str(part.get("text", "")) for part in content) if isinstance(content, list) else answer.said
    return [Finding("call", "fault", f"{name} failed ({shown(said).rstrip('.')}): check what stands behind '?'.")]


async def _streams(wire: Wire, greeted: Reply, headers: dict[str, str]) -> list[Finding]:
    """Whether a proxy on the way holds streams back until they end, or packs them."""
    buffered = "set proxy_buffering off (nginx) or its like, and no compression; else progress and questions come late."
    if greeted.type == "text/event-stream":
        if "content-length" in greeted.headers:
            return [
                Finding("streams", "warn", f"A stream comes with its length, so a proxy has held it back: {buffered}")
            ]
        if greeted.headers.get("content-encoding", "identity") not in ("identity", ""):
            return [Finding("streams", "warn", f"A stream comes compressed, which holds events back: {buffered}")]
    if not headers:
        return []
    try:
        async with asyncio.timeout(STREAM_SECONDS):
            opened = await wire.send("GET", None, {**headers, "accept": "text/event-stream"})
    except TimeoutError:
        said = f"A stream (GET) does not begin within {STREAM_SECONDS:.0f} seconds: a proxy holds it back; {buffered}"
        return [Finding("streams", "warn", said)]
    if opened.status == 200 and opened.type == "text/event-stream":
        return [Finding("streams", "ok", "a stream for what the server says by itself opens at once")]
    if opened.status == 200:
        said = f"GET is answered with {shown(opened.type) or 'nothing'}: it must be a stream, or 405."
        return [Finding("streams", "warn", said)]
    return [Finding("streams", "ok", f"no stream beside the answers ({opened.status})")]


def _speed(greeted: Reply, listed: Reply) -> Finding:
    slowest = max(greeted.seconds, listed.seconds)
    said = f"handshake {greeted.seconds * 1000:.0f} ms, tools {listed.seconds * 1000:.0f} ms"
    if slowest > SLOW:
        return Finding(
            "speed", "warn", f"{said}: clients may give up; look at what the server waits for, or at its start."
        )
    return Finding("speed", "ok", said)
