"""Putting the question whether a tool may act to the person at the client (2026-07-28, multi round-trip requests).

The tool's call is answered with an elicitation and a sealed state; the client repeats the call with both. The state is
bound to the caller, the tool, its arguments and 600 s, and can be opened by every process that has the root secret.
Clients that cannot ask get an error with the address of the approval page instead, as every handshake client does; so
does a run, whose client speaks for no person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

from mcp.server.context import ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp_types import CLIENT_CAPABILITIES_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from server.keyring import Keyring
from server.mcp.inbound import Inbound
from tools.approval import Answer, Asked

AUDIENCE: Final = "innkeeper"
KEY_LABEL: Final = "mcp-request-state"
QUESTION: Final = "approval"
LED: Final = "page"
"""The state of a call that led a person to a page: there is nothing to remember of it."""
ANSWERS: Final = {"accept": True, "decline": False, "cancel": None}

Context = ServerRequestContext[Any, Inbound]


class Asking:
    """Questions and answers of calls that may ask. One for all requests; it keeps nothing."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._made: tuple[list[bytes], RequestStateBoundary] | None = None

    async def sealed(
        self, ctx: Context, call: Callable[[Context, Answer | None], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """``call`` with the answer that came along, its state opened on its way in and sealed on its way out. A state
        that is not ours, is another call's or has expired is a protocol error."""

        async def go_on(opened: ServerRequestContext[Any, Any]) -> Any:
            return await call(opened, _answer(opened.params or {}))

        result: dict[str, Any] = await self._boundary()(ctx, go_on)  # type: ignore[assignment]  # what call returned
        return result

    def _boundary(self) -> RequestStateBoundary:
        """Made anew when the roots have changed: the first key seals, every one opens."""
        keys = [key for _id, key in self._keyring.signing_keys(KEY_LABEL)]
        if self._made is None or self._made[0] != keys:
            security = RequestStateSecurity(keys=keys, bind_principal=_caller, audience=AUDIENCE)
            self._made = keys, RequestStateBoundary(security, default_audience=AUDIENCE)
        return self._made[1]


def _answer(params: Mapping[str, Any]) -> Answer | None:
    """What came back with a repeated call. Only together with the state we gave out for it is it an answer."""
    state, responses = params.get("requestState"), params.get("inputResponses") or {}
    given = responses.get(QUESTION)
    if state in (None, LED) or not isinstance(given, Mapping):
        return None
    return Answer(UUID(state), ANSWERS.get(str(given.get("action"))))


def can_ask(ctx: Context, inbound: Inbound) -> bool:
    """Whether a person sits at this client: it is of the modern era, elicits by forms, and is not a run's."""
    elicitation = elicits(ctx, inbound)
    # A client that names no mode means forms, the only one there was (2025-06-18).
    return elicitation is not None and ("form" in elicitation or "url" not in elicitation)


def elicits(ctx: Context, inbound: Inbound) -> Mapping[str, Any] | None:
    """What a client of the modern era says of its elicitation, ``None`` when there is none, or nobody at a client."""
    if inbound.principal.run_id is not None or ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return None
    meta = (ctx.params or {}).get("_meta") or {}
    elicitation = (meta.get(CLIENT_CAPABILITIES_META_KEY) or {}).get("elicitation")
    return elicitation if isinstance(elicitation, Mapping) else None


def ask(asked: Asked) -> dict[str, Any]:
    """The result that makes the client ask. Accepting is the whole answer: the form has no fields."""
    facts = "".join(f"\n{label}: {_one_line(text)}" for label, text in asked.preview.facts.items())
    message = f"Allow this? {asked.preview.effect}{facts}"
    schema = {"type": "object", "properties": {}}
    question = {"mode": "form", "message": message, "requestedSchema": schema}
    return {
        "resultType": "input_required",
        "inputRequests": {QUESTION: {"method": "elicitation/create", "params": question}},
        "requestState": str(asked.id),
    }


def _caller(ctx: ServerRequestContext[Any, Any]) -> str:
    principal = ctx.request.principal if isinstance(ctx.request, Inbound) else None
    if principal is None:
        raise RuntimeError("an MCP handler was called without a request")
    return f"{principal.credential_id}:{principal.end_user_id}"


def _one_line(text: str) -> str:
    """A name that a tenant chose, unable to pass for a line of ours."""
    return '"' + "".join(character if character.isprintable() else " " for character in text) + '"'
