"""What the first answer of an endpoint says: whether it is one at all, and whether it wants a token."""

from __future__ import annotations

from typing import Final
from urllib.parse import urljoin, urlsplit

from server.diagnosis import network
from server.diagnosis.wire import INITIALIZE, Reply, Wire, origin_of, shown
from server.finding import Finding

USUAL_PATHS: Final = ("/mcp", "/mcp/", "/sse", "/")
_SAID: Final = {
    406: "It refuses the Accept header that MCP asks for ({said}): a proxy may rewrite it, or this is no MCP endpoint.",
    415: "It refuses application/json ({said}): this is no MCP endpoint, or a proxy rewrites Content-Type.",
    421: "It does not answer for this host name ({said}): add the name to its allowed hosts, or set its public "
    "address (Innkeeper: INNKEEPER_PUBLIC_URL or INNKEEPER_ALLOWED_HOSTS).",
    429: "It says that there were too many requests ({said}): wait, and try again.",
    502: "A proxy cannot reach the server behind it (502): start the server, or mend the proxy's target.",
    503: "The server is not available (503; {said}): it starts, is overloaded or down; try again, then see its log.",
    504: "The server behind a proxy does not answer in time (504): look at its log and the proxy's time-outs.",
}


async def judge(wire: Wire, reply: Reply) -> tuple[str, Finding]:
    """What kind of answer ``reply`` to an ``initialize`` without token is, ``open``, ``locked`` or ``no``, and what to
    say of it."""
    status = reply.status
    if status in (0, 400) and reply.message is None:
        return "no", await _misunderstood(wire.url, reply)
    if 300 <= status < 400:
        return "no", _redirect(wire.url, reply)
    if status == 401:
        return "locked", Finding("http", "ok", "It is there, and asks for a token (401).")
    if status == 403:
        return "no", _forbidden(reply)
    if reply.message is not None and status != 421:
        return "open", Finding("http", "ok", f"It speaks JSON-RPC, and answers without a token ({status}).")
    if status in (404, 405, 410):
        return "no", await _elsewhere(wire, reply)
    if status in _SAID:
        return "no", Finding("host" if status == 421 else "http", "fault", _SAID[status].format(said=reply.said))
    if status >= 500:
        said = f"The server fails ({status}; {reply.said}): look at its log."
        return "no", Finding("http", "fault", said)
    if reply.type == "text/html":
        return "no", Finding(
            "path", "fault", "A web page answers here, no MCP endpoint: check the path, often it is /mcp."
        )
    said = f"What answers is no MCP ({status}, {shown(reply.type) or 'no type'}): check the path, often it is /mcp."
    return "no", Finding("path", "fault", said)


async def origins(wire: Wire) -> Finding:
    """Whether pages may call it: browser-based clients send an ``Origin``."""
    own = origin_of(wire.url)
    reply = await wire.call("initialize", INITIALIZE, {"origin": own}, token=False)
    if reply.status == 403:
        said = f"It refuses the Origin {own} ({reply.said}): clients in a browser cannot connect; allow their origin."
        return Finding("origin", "warn", said)
    return Finding("origin", "ok", f"the Origin {own} is let in")


async def _misunderstood(url: str, reply: Reply) -> Finding:
    """No HTTP came back, or a server says that none came to it."""
    parts = urlsplit(url)
    if parts.scheme == "http" and await network.speaks_tls(parts):
        return Finding("tls", "fault", "This port speaks TLS: use https://.")
    if reply.status:
        return Finding("http", "fault", f"It takes the request for a wrong one (400; {reply.said}): look at its log.")
    if reply.late:
        return Finding("http", "fault", f"It takes the request and answers {reply.fault}; look at its log.")
    said = f"No answer that is HTTP ({reply.fault}): check scheme and port, and the server's log."
    return Finding("http", "fault", said)


def _redirect(url: str, reply: Reply) -> Finding:
    raw = reply.headers.get("location", "")
    there = urljoin(url, raw)
    if not raw:
        return Finding("redirect", "fault", f"It redirects ({reply.status}) to nowhere: mend the server or its proxy.")
    old, new = urlsplit(url), urlsplit(there)
    if old.scheme == "https" and new.scheme == "http":
        said = (
            f"It redirects from https to {shown(there)}: the proxy does not tell the server of https, or is "
            "not believed (X-Forwarded-Proto, its public address)."
        )
    elif (old.netloc, old.path.rstrip("/")) == (new.netloc, new.path.rstrip("/")):
        said = f"It redirects to {shown(there)}: give clients exactly this address, they may not follow."
    elif any(word in new.path.lower() for word in ("login", "sign", "auth")):
        said = f"It redirects to a page for people, {shown(there)}: exempt this path from the sign-in of the proxy."
    else:
        said = f"It redirects to {shown(there)}: use that address, if it is the server you mean."
    return Finding("redirect", "fault", said)


async def _elsewhere(wire: Wire, reply: Reply) -> Finding:
    """A wrong path, the older transport, or nothing here at all."""
    stream = await wire.fetch("GET", wire.url, None, {"accept": "text/event-stream"})
    if stream.status == 200 and stream.type == "text/event-stream":
        said = (
            "It speaks the older HTTP+SSE transport, which clients give up: use the server's Streamable HTTP address."
        )
        return Finding("path", "fault", said)
    origin, here = origin_of(wire.url), urlsplit(wire.url).path or "/"
    for path in USUAL_PATHS:
        if path == here:
            continue
        other = await Wire(wire.http, origin + path, None).call("initialize", INITIALIZE, token=False)
        if other.status == 401 or other.message is not None:
            return Finding(
                "path", "fault", f"There is nothing at {here} ({reply.status}), but at {path}: use {origin}{path}."
            )
    said = f"There is nothing at {here} ({reply.status}): ask whoever runs the server for its MCP address."
    return Finding("path", "fault", said)


def _forbidden(reply: Reply) -> Finding:
    if "host" in reply.said.lower():
        said = f"It refuses the host name ({reply.said}): add the name to the server's allowed hosts."
        return Finding("host", "fault", said)
    said = f"It refuses everybody without asking for a token (403; {reply.said}): a firewall or proxy stands before it."
    return Finding("http", "fault", said)
