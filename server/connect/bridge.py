"""Between a client's standard streams and an endpoint over HTTP: what ``innkeeper stdio`` carries.

Messages pass as they are, in both eras of MCP: a client and the endpoint find theirs themselves. What is of HTTP alone
(headers, tokens, streams that close) is done here, as the Streamable HTTP transport has it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Final

import httpx2
from mcp_types import (
    CONNECTION_CLOSED,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)

from server.refusal import Refusal
from server.terminal import note

VERSION: Final = "mcp-protocol-version"
NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
ACCEPT: Final = "application/json, text/event-stream"
PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to reach a house that takes no connection: nothing has been asked of it yet."""
LEAVING: Final = 2.0
"""Seconds for what is under way when the client says no more. Clients wait so long before they end a process."""
Token = Callable[[bool], Awaitable[str]]
_PLAIN: Final = re.compile(r"[A-Za-z0-9][!-~]*")


class Bridge:
    """``token``: the access token; a new one when it is called with ``True``, since that of before was refused.
    ``tell``: takes a line that is for the client."""

    def __init__(self, http: httpx2.AsyncClient, url: str, token: Token, tell: Callable[[bytes], None]) -> None:
        self._http = http
        self._url = url
        self._token = token
        self._tell = tell
        self._at_work: dict[RequestId, asyncio.Task[None]] = {}
        self._agreed: str | None = None
        """The version of the handshake era, after the handshake."""

    async def carry(self, lines: AsyncIterable[bytes]) -> None:
        """What the client says, a message a line, until it says no more."""
        async with asyncio.TaskGroup() as tasks:
            under_way = set()
            async for line in lines:
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    note("innkeeper: What came is no message of MCP, and was passed over.")
                    continue
                if _is_cancel(message):
                    self._cancel(message)
                    if self._agreed is None:
                        continue
                task = tasks.create_task(self._carry(message))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                if isinstance(message, JSONRPCRequest):
                    self._at_work[message.id] = task
            if under_way:
                _, late = await asyncio.wait(under_way, timeout=LEAVING)
                for task in late:
                    task.cancel()

    def _cancel(self, message: JSONRPCMessage) -> None:
        """A stream that closes ends a read at the house; since 2026-07-28 it says all that a cancel says."""
        task = self._at_work.get(_params(message).get("requestId", ""))
        if task is not None:
            task.cancel()

    async def _carry(self, message: JSONRPCMessage) -> None:
        """One message there, and what it is answered with back."""
        try:
            response = await self._post(message)
            try:
                if isinstance(message, JSONRPCRequest):
                    await self._answer(message, response)
            finally:
                await response.aclose()
        except Refusal as refusal:
            self._fail(message, str(refusal))
        except httpx2.HTTPError as error:
            said = f"The connection to {self._url} failed ({type(error).__name__}): whether it was done is not known."
            self._fail(message, said)
        finally:
            if isinstance(message, JSONRPCRequest) and self._at_work.get(message.id) is asyncio.current_task():
                del self._at_work[message.id]

    async def _post(self, message: JSONRPCMessage) -> httpx2.Response:
        response = await self._send(message, await self._token(False))
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            await response.aclose()
            response = await self._send(message, await self._token(True))
        return response

    async def _send(self, message: JSONRPCMessage, token: str) -> httpx2.Response:
        request = self._http.build_request(
            "POST", self._url,
            json=message.model_dump(by_alias=True, mode="json", exclude_unset=True),
            headers={"accept": ACCEPT, "authorization": f"Bearer {token}", **self._headers(message)},
        )  # fmt: skip
        for pause in (*PAUSES, None):
            try:
                return await self._http.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if pause is not None:
                    await asyncio.sleep(pause)
        raise Refusal(f"{self._url} cannot be reached: 'innkeeper doctor --mcp {self._url}' tells why.")

    def _headers(self, message: JSONRPCMessage) -> dict[str, str]:
        """Those that repeat what a message says, for who reads no bodies on the way."""
        params = _params(message)
        version = (params.get("_meta") or {}).get(PROTOCOL_VERSION_META_KEY)
        if not isinstance(message, JSONRPCRequest) or not isinstance(version, str):
            agreed = None if isinstance(message, JSONRPCRequest) and message.method == "initialize" else self._agreed
            return {VERSION: agreed} if agreed else {}
        headers = {VERSION: version, "mcp-method": message.method}
        name = params.get(NAMED_BY.get(message.method, ""))
        return {**headers, "mcp-name": _value(name)} if isinstance(name, str) else headers

    async def _answer(self, request: JSONRPCRequest, response: httpx2.Response) -> None:
        try:
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                self._pass(request, await response.aread())
                return
            async for event in httpx2.EventSource(response, max_event_size=None):
                if event.data and self._pass(request, event.data):
                    return
        except ValueError:
            said = f"{self._url} answers {response.status_code}, and no MCP"
            raise Refusal(f"{said}: 'innkeeper doctor --mcp {self._url}' tells why.") from None
        raise Refusal(f"{self._url} ended its stream before it answered: whether it was done is not known.")

    def _pass(self, request: JSONRPCRequest, text: str | bytes) -> bool:
        """Pass on one message; whether it was the answer. Raises :class:`ValueError` for what is none."""
        message = jsonrpc_message_adapter.validate_json(text, by_name=False)
        if isinstance(message, JSONRPCError):
            # The house names no id where it has read none.
            message = JSONRPCError(jsonrpc="2.0", id=request.id, error=message.error)
        if isinstance(message, JSONRPCResponse) and request.method == "initialize":
            self._agreed = str(message.result.get("protocolVersion"))
        self._say(message)
        return isinstance(message, JSONRPCResponse | JSONRPCError)

    def _fail(self, message: JSONRPCMessage, said: str) -> None:
        note(f"innkeeper: {said}")
        if isinstance(message, JSONRPCRequest):
            error = ErrorData(code=CONNECTION_CLOSED, message=said)
            self._say(JSONRPCError(jsonrpc="2.0", id=message.id, error=error))

    def _say(self, message: JSONRPCMessage) -> None:
        self._tell(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")


def _value(name: str) -> str:
    """As it may stand in a header. The whole SDK, which knows the rest, is three times what a start costs otherwise."""
    if _PLAIN.fullmatch(name):
        return name
    from mcp.shared.inbound import encode_header_value

    return encode_header_value(name)


def _is_cancel(message: JSONRPCMessage) -> bool:
    return isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled"


def _params(message: JSONRPCMessage) -> dict[str, Any]:
    return getattr(message, "params", None) or {}
