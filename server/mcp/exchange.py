"""The lane that knows everything: the official SDK's low-level server, one request in, one answer out, both eras.

The SDK's kernel (``ServerRunner``, the inbound ladder of the modern era, the version surfaces) does the protocol. Its
HTTP transports are not used: they build a task group, memory streams and a dispatcher for each stateless handshake
request, need a lifespan, and answer 200 where the specification wants something else. Without them one coroutine
serves a request, so the endpoint can be called over ASGI in-process with nothing running around it.

Sources: MCP 2025-11-25 and 2026-07-28, "Streamable HTTP"; ``mcp.server._streamable_http_modern`` for the order of the
modern checks, which a client can see when two of them fail at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import ServerRunner, modern_error_data
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import DEFAULT_NEGOTIATED_VERSION, HEADER_MISMATCH, INVALID_REQUEST, PARSE_ERROR, ErrorData, RequestId
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic_core import from_json, to_json

from db.errors import AppError
from server.mcp.connections import Connections
from server.mcp.faults import on_wire
from server.mcp.inbound import Answer, Inbound, LongAnswer
from server.mcp.long_work import LongWork
from server.mcp.one_shot import OneShot
from server.mcp.results import describe, explain
from server.mcp.streaming import EventStream, Say, Told
from tools.catalog import Catalog

VERSION_HEADER = "mcp-protocol-version"
BATCH_VERSIONS = frozenset({"2024-11-05", "2025-03-26"})
MAX_BATCH = 50


class Exchange:
    """The SDK lane. ``server`` holds the handlers; it is shared by every request and keeps no state of any."""

    def __init__(self, server: Server[Any], catalog: Catalog) -> None:
        self.server = server
        self._connections = Connections()
        self._long_work = LongWork(server, catalog)

    async def answer(self, inbound: Inbound) -> Answer | LongAnswer:
        try:
            message = from_json(inbound.body, allow_inf_nan=False)
        except ValueError:
            return failure(None, ErrorData(code=PARSE_ERROR, message="Parse error: the body is not valid JSON"), 400)
        version = inbound.headers.get(VERSION_HEADER)
        if version is None or version in HANDSHAKE_PROTOCOL_VERSIONS:
            return await self._answer_handshake(inbound, message, version or DEFAULT_NEGOTIATED_VERSION)
        return await self._answer_modern(inbound, message, version)

    async def _answer_handshake(self, inbound: Inbound, message: Any, version: str) -> Answer | LongAnswer:
        if isinstance(message, list) and version in BATCH_VERSIONS:
            return await self._answer_batch(inbound, message, version)
        if is_request(message) and (goes_on := self._long_work.of(inbound, message)) is not None:
            connection = self._connections.of(version, None, None)
            return self._serve_long(inbound, message, connection, _encode_handshake, goes_on=goes_on)
        reply = await self._reply(inbound, message, version)
        return Answer(202) if reply is None else _encode_handshake(reply)

    async def _answer_batch(self, inbound: Inbound, messages: list[Any], version: str) -> Answer:
        """JSON-RPC batches: revisions up to 2025-03-26 must be able to receive them, later ones must not."""
        if not messages or len(messages) > MAX_BATCH:
            return failure(
                None, ErrorData(code=INVALID_REQUEST, message=f"A batch holds 1 to {MAX_BATCH} messages"), 400
            )
        replies = [await self._reply(inbound, message, version) for message in messages]
        answered = [reply for reply in replies if reply is not None]
        return Answer(200, to_json(answered)) if answered else Answer(202)

    async def _reply(self, inbound: Inbound, message: Any, version: str) -> dict[str, Any] | None:
        """The JSON-RPC reply to one handshake-era message; ``None`` to those that get none."""
        if is_notification(message) or is_reply(message):
            # A stateless server has sent no request and keeps no session, so neither tells it anything. Cancelling by
            # a posted request id is refused with them: ids are not unique across clients.
            return None
        if not is_request(message):
            return {"jsonrpc": "2.0", "id": None, "error": _not_a_message()}
        if message["method"] == "initialize":
            # The only method that changes its connection: it gets one of its own.
            connection = Connection.from_envelope(version, None, None)
        else:
            connection = self._connections.of(version, None, None)
        return await self._serve(OneShot(inbound, message["id"]), message, connection)

    async def _answer_modern(self, inbound: Inbound, message: Any, version: str) -> Answer | LongAnswer:
        if is_notification(message):
            unsupported = unsupported_protocol_version_rejection(version)
            return _rejected(None, unsupported) if unsupported is not None else Answer(202)
        if not is_request(message):
            return _encode({"jsonrpc": "2.0", "id": None, "error": _not_a_message()})
        request_id = message["id"]
        if inbound.repeats_headers:
            repeated = find_duplicated_routing_header(inbound.all_headers().items())
            if repeated is not None:
                fault = ErrorData(code=HEADER_MISMATCH, message=f"{repeated} header appears more than once")
                return failure(request_id, fault, 400)
        verdict = classify_inbound_request(message, headers=inbound.headers)
        if isinstance(verdict, InboundLadderRejection):
            return _rejected(request_id, verdict)
        mismatch = self._parameter_mismatch(inbound, message)
        if mismatch is not None:
            return _rejected(request_id, mismatch)
        connection = self._connections.of(verdict.protocol_version, verdict.client_info, verdict.client_capabilities)
        if (goes_on := self._long_work.of(inbound, message)) is not None:
            return self._serve_long(inbound, message, connection, _encode, goes_on=goes_on)
        return _encode(await self._serve(OneShot(inbound, message["id"]), message, connection))

    def _parameter_mismatch(self, inbound: Inbound, message: dict[str, Any]) -> InboundLadderRejection | None:
        """``Mcp-Param-*`` headers against the arguments, for the tools whose schema declares such headers."""
        lookup = self.server.get_tool_input_schema
        if message["method"] != "tools/call" or lookup is None:
            return None
        name = message["params"].get("name")
        schema = lookup(name) if isinstance(name, str) else None
        arguments = message["params"].get("arguments") or {}
        if schema is None or not isinstance(arguments, Mapping):
            return None
        return validate_mcp_param_headers(schema, arguments, inbound.all_headers())

    async def _serve(self, context: OneShot, message: dict[str, Any], connection: Connection) -> dict[str, Any]:
        request_id: RequestId = message["id"]
        runner = ServerRunner(self.server, connection, None)
        try:
            result = await runner.on_request(context, message["method"], message.get("params"))
        except Exception as error:  # noqa: BLE001  modern_error_data logs what it does not know
            return {"jsonrpc": "2.0", "id": request_id, "error": on_wire(modern_error_data(error))}
        return {"jsonrpc": "2.0", "id": request_id, "result": result}

    def _serve_long(
        self,
        inbound: Inbound,
        message: dict[str, Any],
        connection: Connection,
        encode: Callable[[dict[str, Any]], Answer],
        *,
        goes_on: bool,
    ) -> LongAnswer:
        async def work(say: Say) -> Answer:
            return encode(await self._serve(Told(inbound, message, say), message, connection))

        return EventStream(work, refuse=partial(refusal_of, message["id"]), goes_on=goes_on, notes=inbound.notes)


def is_request(message: Any) -> bool:
    """Whether a decoded body is one JSON-RPC request: an id that is a string or an integer, and a method."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        return False
    request_id = message.get("id")
    if not isinstance(request_id, str | int) or isinstance(request_id, bool):
        return False
    return isinstance(message.get("params"), dict | None)


def is_notification(message: Any) -> bool:
    """Whether a decoded body is one JSON-RPC notification. The missing id decides (JSON-RPC 2.0, 4.1)."""
    return (
        isinstance(message, dict)
        and "id" not in message
        and message.get("jsonrpc") == "2.0"
        and isinstance(message.get("method"), str)
        and isinstance(message.get("params"), dict | None)
    )


def is_reply(message: Any) -> bool:
    """Whether a decoded body answers a request of ours: handshake-era clients may post such."""
    return (
        isinstance(message, dict)
        and message.get("jsonrpc") == "2.0"
        and "method" not in message
        and ("result" in message or "error" in message)
    )


def failure(request_id: RequestId | None, error: ErrorData, status: int) -> Answer:
    """A JSON-RPC error with an HTTP status of its own."""
    return Answer(status, to_json({"jsonrpc": "2.0", "id": request_id, "error": on_wire(error)}))


def refusal_of(request_id: RequestId | None, error: AppError) -> Answer:
    """The answer to a request whose caller, or whose way here, was at fault."""
    return failure(
        request_id, ErrorData(code=INVALID_REQUEST, message=explain(error), data=describe(error)), error.status
    )


def _rejected(request_id: RequestId | None, rejection: InboundLadderRejection) -> Answer:
    return _encode(
        {
            "jsonrpc": "2.0",
            "id": request_id,
            "error": on_wire(ErrorData(code=rejection.code, message=rejection.message, data=rejection.data)),
        }
    )


def _encode_handshake(reply: dict[str, Any]) -> Answer:
    """Of the faults, only a message that is no message at all has no id; the others travel as 200."""
    return Answer(200 if "result" in reply or reply["id"] is not None else 400, to_json(reply))


def _encode(reply: dict[str, Any]) -> Answer:
    """A modern reply: the error's code decides the HTTP status (2026-07-28, Streamable HTTP)."""
    error = reply.get("error")
    status = 200 if error is None else ERROR_CODE_HTTP_STATUS.get(error["code"], 200)
    return Answer(status, to_json(reply))


def _not_a_message() -> dict[str, Any]:
    return on_wire(
        ErrorData(code=INVALID_REQUEST, message="The body must be a single JSON-RPC request or notification object")
    )
