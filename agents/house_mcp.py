"""A minimal MCP client for our own endpoint: modern era (2026-07-28), one POST a call, over ASGI in this process.

The caller travels as a principal in the ASGI scope, where no socket can put one. There is no session, no handshake, no
cookie and no connection: nothing that two runs could share.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any, Final, TypeAlias

from opentelemetry import trace

from agents.patience import patiently
from db.errors import AppError, unauthenticated, unavailable
from db.principal import Principal

Message: TypeAlias = MutableMapping[str, Any]
MCPApp: TypeAlias = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

PROTOCOL_VERSION: Final = "2026-07-28"
GRANT_KEY: Final = "innkeeper.principal"
ERROR_META: Final = "innkeeper/error"
IDEMPOTENCY_META: Final = "innkeeper/idempotency_key"
AGAIN: Final = "Try the same call again in a moment."
UNAVAILABLE: Final = "urn:innkeeper:error:unavailable"
"""The ``type`` of the problem (RFC 9457) when the house has no database."""
_PATH: Final = "/mcp"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "innkeeper-agent", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_tracer = trace.get_tracer("innkeeper.agents")


class CallRefusedError(Exception):
    """A JSON-RPC error; ``message`` is the server's, fit for a model."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class HouseMCP:
    """Calls ``app``, the ASGI application behind ``/mcp``, as whoever ``grant`` names."""

    def __init__(self, app: MCPApp) -> None:
        self._app = app
        self._ids = count(1)

    async def list_tools(self, grant: Principal) -> list[dict[str, Any]]:
        """The MCP tools that ``grant`` may call, in wire form."""
        tools: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self._page(grant, cursor)
            tools += page["tools"]
            cursor = page.get("nextCursor")
            if cursor is None:
                return tools

    async def _page(self, grant: Principal, cursor: str | None) -> dict[str, Any]:
        params = {} if cursor is None else {"cursor": cursor}
        return await patiently(lambda: self._request(grant, "tools/list", params))

    async def call_tool(
        self, grant: Principal, name: str, arguments: dict[str, Any], idempotency_key: str
    ) -> dict[str, Any]:
        """The CallToolResult in wire form, failed ones included; :class:`CallRefusedError` for a protocol error."""
        params = {"name": name, "arguments": arguments, "_meta": {IDEMPOTENCY_META: idempotency_key}}
        with _tracer.start_as_current_span("agent.tool", attributes={"tool": name}):
            return await patiently(lambda: self._request(grant, "tools/call", params, name), _error_code)

    async def _request(
        self, grant: Principal, method: str, params: dict[str, Any], name: str | None = None
    ) -> dict[str, Any]:
        number = next(self._ids)
        params = {**params, "_meta": {**_META, **params.get("_meta", {})}}
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        status, body = await self._post(grant, json.dumps(message).encode(), method, name)
        if status == 401:
            raise unauthenticated("The key that this run was started with has been revoked or has expired.")
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise CallRefusedError(answer["error"].get("code", 0), str(answer["error"].get("message", "refused")))
        if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
            return dict(answer["result"])
        if isinstance(answer, dict) and answer.get("type") == UNAVAILABLE:
            raise unavailable()
        if isinstance(answer, dict) and status >= 400:
            raise AppError(
                "tools_unavailable", 503, str(answer.get("detail", "The tools did not answer.")), AGAIN, True
            )
        raise AppError("tools_unavailable", 503, "The tools gave an answer that is not MCP.", AGAIN, True)

    async def _post(self, grant: Principal, body: bytes, method: str, name: str | None) -> tuple[int, bytes]:
        headers = [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            # No stream: this client has nothing to do with progress, and waits for one body.
            (b"accept", b"application/json"),
            (b"mcp-protocol-version", PROTOCOL_VERSION.encode()),
            (b"mcp-method", method.encode()),
        ]
        if name is not None:
            headers.append((b"mcp-name", name.encode()))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": _PATH,
            "raw_path": _PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "server": ("127.0.0.1", 80),
            "client": None,
            "state": {},
            GRANT_KEY: grant,
        }
        unread = True
        status = 0
        chunks: list[bytes] = []

        async def receive() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return status, b"".join(chunks)


def _error_code(result: dict[str, Any]) -> str | None:
    """That of a call that failed, as the house's own tools say it."""
    error = (result.get("_meta") or {}).get(ERROR_META)
    return error.get("code") if isinstance(error, dict) else None
