"""What faults of the protocol itself teach: requests that no handler sees, because the message is wrong.

The SDK says what was wrong; this adds the code, the hint and whether to retry, which all other errors here have.
"""

from __future__ import annotations

from typing import Any, Final

from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    ErrorData,
)

from db.errors import AppError

_FAULTS: Final = {
    PARSE_ERROR: AppError(
        "parse_error", 400, "The body is not valid JSON.", "Send one JSON-RPC 2.0 message as JSON in UTF-8."
    ),
    INVALID_REQUEST: AppError(
        "invalid_request",
        400,
        "The body is not a JSON-RPC request.",
        'Send one object with "jsonrpc": "2.0", an id that is a string or an integer, a method, and params.',
    ),
    METHOD_NOT_FOUND: AppError(
        "method_not_found",
        404,
        "This server has no such method.",
        "Ask what it has with server/discover (2026-07-28) or initialize (before), and use that.",
    ),
    INVALID_PARAMS: AppError(
        "invalid_params",
        400,
        "The params of the method are wrong.",
        "Give what the method takes in your revision of the protocol; server/discover and the lists need _meta only.",
    ),
    HEADER_MISMATCH: AppError(
        "header_mismatch",
        400,
        "A header and the body contradict each other.",
        "Send Mcp-Method, Mcp-Name, Mcp-Param-* and MCP-Protocol-Version once each, with the values of the body.",
    ),
    UNSUPPORTED_PROTOCOL_VERSION: AppError(
        "unsupported_protocol_version",
        400,
        "This revision of the protocol is not spoken here.",
        "Use one of the revisions in supported.",
    ),
    MISSING_REQUIRED_CLIENT_CAPABILITY: AppError(
        "missing_client_capability",
        400,
        "The call needs something the client says it cannot do.",
        "Declare the capability in _meta, when the client has it.",
    ),
    INTERNAL_ERROR: AppError(
        "internal_error", 500, "Something broke on our side.", "If it happens again, report it.", True
    ),
}


def on_wire(error: ErrorData) -> dict[str, Any]:
    """A JSON-RPC error as it is sent: with ``code``, ``hint`` and ``retryable`` in its data, whoever made it."""
    sent: dict[str, Any] = {"code": error.code, "message": error.message}
    known, data = _FAULTS.get(error.code), error.data
    if known is not None and not (isinstance(data, dict) and "hint" in data):
        # The SDK's data is an object, a name, an empty text or nothing.
        more = data if isinstance(data, dict) else {"about": data} if data else {}
        data = {"code": known.code, "hint": known.hint, "retryable": known.retryable, **more}
    if data is not None:
        sent["data"] = data
    return sent
