"""Calls beyond the scopes of a token, answered so that clients ask for a token with more (RFC 6750 3.1, SEP-2350).

The lanes answer such a call like any other that failed. On its way to a socket the answer becomes HTTP 403 with a
challenge that names the scopes to ask for: the missing one and those the token has, because some clients ask for
exactly what is named. The body is a JSON-RPC error that says the same, for clients that do not read the header. A run
cannot ask for another token: it keeps the tool's result.
"""

from __future__ import annotations

from typing import Any

from mcp_types import INVALID_REQUEST
from pydantic_core import from_json, to_json
from starlette.types import Scope

from server.mcp.inbound import Answer, Inbound
from server.mcp.resource import ProtectedResource
from server.mcp.results import ERROR_META

CODE = "insufficient_scope"


def stepped_up(answer: Answer, inbound: Inbound, resource: ProtectedResource, scope: Scope) -> Answer:
    """``answer``, or the 403 it has to be. Batches stay as they are: a client would repeat what was done already."""
    if inbound.notes.get("error") != CODE or inbound.principal.run_id is not None:
        return answer
    reply = from_json(answer.body)
    found = told(reply) if isinstance(reply, dict) else None
    if found is None:
        return answer
    text, data = found
    wanted = sorted({data["ask"]["scope"], *inbound.principal.scopes})
    error = {"code": INVALID_REQUEST, "message": text, "data": data}
    return Answer(
        403,
        to_json({"jsonrpc": "2.0", "id": reply["id"], "error": error}),
        (*answer.headers, (b"www-authenticate", resource.step_up(scope, wanted))),
    )


def told(reply: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The text and the data of the error in a reply, whether it is a tool's result or the protocol's own."""
    if "error" in reply:
        return reply["error"]["message"], reply["error"]["data"]
    result = reply["result"]
    data = result.get("_meta", {}).get(ERROR_META)
    return None if data is None else (result["content"][0]["text"], data)
