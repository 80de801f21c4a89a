"""Leading the person at a client to a page of ours (2026-07-28, elicitation in URL mode).

What they enter there passes neither through the client nor through its model. The client asks whether to open the
address and repeats the call; that it was opened says nothing of what was done there, so the repeated call is answered
as things are then. Clients that cannot, of the handshake era or without that mode, and runs get the address in the
answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from db.errors import AppError
from server.mcp.asking import LED, Context, elicits
from server.mcp.inbound import Inbound
from server.mcp.results import refusal

PAGE: Final = "page"
MESSAGE: Final = "Open this page of Innkeeper to enter what the assistant must not see."


def lead(ctx: Context, inbound: Inbound, result: dict[str, Any], field: str) -> dict[str, Any]:
    """``result`` of a tool whose answer has the address in ``field``, or the elicitation that goes before it."""
    elicitation = elicits(ctx, inbound)
    if elicitation is None or "url" not in elicitation:
        return result
    params = ctx.params or {}
    given = (params.get("inputResponses") or {}).get(PAGE)
    url = result["structuredContent"][field]
    if params.get("requestState") != LED or not isinstance(given, Mapping):
        question = {"mode": "url", "message": MESSAGE, "url": url}
        return {
            "resultType": "input_required",
            "inputRequests": {PAGE: {"method": "elicitation/create", "params": question}},
            "requestState": LED,
        }
    if given.get("action") == "accept":
        return result
    inbound.notes["error"] = "page_not_opened"
    return refusal(
        AppError(
            "page_not_opened",
            403,
            "The user did not want to open the page.",
            f"Do not repeat the call; ask the user what they want instead. The page stays at {url}.",
        )
    )
