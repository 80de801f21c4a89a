"""Too many requests, answered as HTTP 429 with ``Retry-After`` and a body that models can read.

What a key may not do is refused before its request is read. What a project may not do is known when the call is: the
lane answers it like any other call that failed, and on its way to a socket that answer becomes 429 too.
"""

from __future__ import annotations

from mcp_types import INVALID_REQUEST
from pydantic_core import from_json, to_json

from db.errors import AppError
from server.mcp.exchange import refusal_of
from server.mcp.inbound import Answer, Inbound
from server.mcp.step_up import told

CODES = frozenset({"rate_limited", "too_many_at_once"})


def refused(error: AppError) -> Answer:
    """The answer to a request that nobody has looked at: its id is not known."""
    answer = refusal_of(None, error)
    return Answer(answer.status, answer.body, _retry_after(error.retry_after))


def paced(answer: Answer, inbound: Inbound) -> Answer:
    """``answer``, or the 429 it has to be. Batches stay as they are: a client would repeat what was done already; and
    a run's calls keep the tool's result, which its model reads."""
    if inbound.notes.get("error") not in CODES or inbound.principal.run_id is not None:
        return answer
    reply = from_json(answer.body)
    found = told(reply) if isinstance(reply, dict) else None
    if found is None:
        return answer
    text, data = found
    error = {"code": INVALID_REQUEST, "message": text, "data": data}
    body = to_json({"jsonrpc": "2.0", "id": reply["id"], "error": error})
    return Answer(429, body, (*answer.headers, *_retry_after(data.get("retry_after"))))


def _retry_after(seconds: int | None) -> tuple[tuple[bytes, bytes], ...]:
    return () if seconds is None else ((b"retry-after", str(seconds).encode()),)
