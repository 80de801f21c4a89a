"""How an MCP endpoint is spoken to while it is examined: single requests, each with its time, none ever redirected.

Nothing here raises for what a server does: whatever comes back, or does not, is a :class:`Reply`.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION

SECONDS: Final = 10.0
LONGEST: Final = 20.0
"""Seconds for an answer that comes in pieces, none of them late."""
MOST: Final = 4 * 1024 * 1024
SHOWN: Final = 160
VERSION: Final = "mcp-protocol-version"
SESSION: Final = "mcp-session-id"
ACCEPT: Final = "application/json, text/event-stream"
NAME: Final = {"name": "innkeeper-doctor", "version": "1"}
META: Final = {
    "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": NAME,
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE: Final = {"protocolVersion": LATEST_HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": NAME}
Headers = Mapping[str, str]
NONE: Final[Headers] = {}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_PARAMETER: Final = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')


@dataclass(frozen=True, slots=True)
class Reply:
    """``status`` 0: nothing came, and ``fault`` says why; ``late``: because time was up. ``message``: the JSON-RPC
    answer; ``document``: any JSON."""

    status: int
    headers: Headers = field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0
    fault: str = ""
    late: bool = False

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def document(self) -> Any:
        text = _answer(self.body + "\n\n") if self.type == "text/event-stream" else self.body
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None

    @property
    def message(self) -> dict[str, Any] | None:
        found = self.document
        return found if isinstance(found, dict) and found.get("jsonrpc") == "2.0" else None

    @property
    def result(self) -> dict[str, Any] | None:
        found = (self.message or {}).get("result")
        return found if isinstance(found, dict) else None

    @property
    def error(self) -> dict[str, Any]:
        found = (self.message or {}).get("error")
        return found if isinstance(found, dict) else {}

    @property
    def challenge(self) -> dict[str, str]:
        """The parameters of ``WWW-Authenticate`` (RFC 6750 3)."""
        found = _PARAMETER.findall(self.headers.get("www-authenticate", ""))
        return {name.lower(): quoted or plain for name, quoted, plain in found}

    @property
    def said(self) -> str:
        """What a person may want to read of it, on one line."""
        error = self.error.get("message") or self.challenge.get("error_description")
        document = self.document
        if not error and isinstance(document, dict):
            names = ("error_description", "detail", "message")
            return shown(str(next((document[name] for name in names if document.get(name)), "")))
        return shown(str(error or self.body.strip()))


class Wire:
    """``token`` goes to ``url`` alone."""

    def __init__(self, http: httpx2.AsyncClient, url: str, token: str | None) -> None:
        self.url = url
        self.http = http
        self.token = token

    async def call(
        self, method: str, params: Mapping[str, Any], headers: Headers = NONE, *, token: bool = True
    ) -> Reply:
        """One JSON-RPC request of the handshake era; without ``token`` as a stranger."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.send("POST", message, headers, token=token)

    async def call_modern(self, method: str) -> Reply:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META}}
        return await self.send("POST", message, {VERSION: LATEST_MODERN_VERSION, "mcp-method": method})

    async def notify(self, method: str, headers: Headers) -> Reply:
        return await self.send("POST", {"jsonrpc": "2.0", "method": method}, headers)

    async def send(self, verb: str, message: Any, headers: Headers, *, token: bool = True) -> Reply:
        sent = {"accept": ACCEPT, **headers}
        if token and self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        return await self.fetch(verb, self.url, message, sent)

    async def get(self, url: str) -> Reply:
        """A public document."""
        return await self.fetch("GET", url, None, {"accept": "application/json"})

    async def fetch(self, verb: str, url: str, message: Any, headers: Headers) -> Reply:
        began = perf_counter()
        content = None if message is None else json.dumps(message)
        if content is not None:
            headers = {**headers, "content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(LONGEST),
                self.http.stream(verb, url, content=content, headers=headers) as response,
            ):
                body = await _read(response, verb)
                seen = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, seen, body, perf_counter() - began)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, ValueError, TimeoutError) as error:
            late = isinstance(error, httpx2.TimeoutException | TimeoutError)
            return Reply(0, seconds=perf_counter() - began, fault=_why(error), late=late)


def shown(text: str) -> str:
    """Words of a server as they may stand on a terminal: one line, without control characters, not too many."""
    text = _CONTROL.sub(" ", text).strip()
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def _read(response: httpx2.Response, verb: str) -> str:
    """The body; of a stream what there is until its first answer, and nothing of a stream that was asked for with GET,
    since that one never ends."""
    streams = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    if streams and verb == "GET":
        return ""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST or (streams and _answer(body.decode(errors="replace"))):
            break
    return body.decode(errors="replace")


def _answer(body: str) -> str:
    """The data of the first whole event that is a JSON-RPC answer; empty while there is none."""
    for event in re.split(r"\r?\n\r?\n", body)[:-1]:
        data = "\n".join(line[5:].lstrip(" ") for line in event.splitlines() if line.startswith("data:"))
        if '"result"' in data or '"error"' in data:
            return data
    return ""


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"in pieces, without an end after {LONGEST:.0f} seconds: the server hangs"
    if isinstance(error, httpx2.TimeoutException):
        return (
            f"nothing within {SECONDS:.0f} seconds: the server hangs, or a proxy holds its streams back "
            "(proxy_buffering off)"
        )
    return shown(str(error)) or type(error).__name__
