"""Outcomes and errors of tools in the shape of MCP results: plain dictionaries, ready for the wire."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic_core import to_json

from db.errors import AppError
from tools.approval import ApprovalRequiredError
from tools.outcome import Outcome
from tools.result import NEXT, how_to_go_on
from tools.trust import AS_SCHEMA

log = logging.getLogger("innkeeper.error")

ERROR_META = "innkeeper/error"
"""The ``_meta`` key that tells clients, which can branch on it, what the text tells the model."""


TRUST_META = "innkeeper/trust"
"""The ``_meta`` key that says which parts of a result others wrote: data, and never instructions."""

_NEXT: Final = f'"{NEXT}"'.encode()

LINKS_SINCE: Final = "2025-06-18"
"""The revision that brought links to resources into results."""

COMPLETE = "complete"
"""What every result of the modern era says of itself; the schemas of the handshake era take it out again."""


def success(outcome: Outcome, *, links: bool = True) -> dict[str, Any]:
    """A tool's answer: the same content twice, as data for programs and as text for models.

    In the text, words of others stand between marks, and a sentence of its own says how to get what was cut. The data
    has no marks; its label says where those words are.
    """
    structured = outcome.structured
    content = [{"type": "text", "text": outcome.text}]
    if outcome.rest_from and (more := how_to_go_on(structured, outcome.rest_from)):
        content.append({"type": "text", "text": more})
    if outcome.link and links:
        content.append(_link(outcome.link))
    return {
        "resultType": COMPLETE,
        "content": content,
        "structuredContent": structured,
        "isError": False,
        "_meta": trust_label(outcome.untrusted),
    }


def printed(outcome: Outcome, begins: bytes = b"", ends: bytes = b"", *, links: bool = True) -> bytes:
    """:func:`success` as JSON, without a parse of what is JSON already. ``begins`` and ``ends`` are put before the
    first of its fields and after the last field of ``_meta``; what the eras say of themselves is the lane's."""
    data = outcome.json
    more = None
    if outcome.rest_from and _NEXT in data:
        more = how_to_go_on(outcome.structured, outcome.rest_from)
    rest = b"" if more is None else b',{"type":"text","text":%b}' % to_json(more)
    if outcome.link and links:
        rest += b",%b" % to_json(_link(outcome.link))
    return b'{%b"content":[{"type":"text","text":%b}%b],"structuredContent":%b,"isError":false,"_meta":{%b%b}}' % (
        begins, to_json(outcome.text), rest, data, _label(outcome.untrusted), ends
    )  # fmt: skip


def _link(uri: str) -> dict[str, str]:
    return {"type": "resource_link", "uri": uri, "name": uri.rpartition("/")[2]}


@lru_cache(maxsize=256)
def _label(untrusted: tuple[str, ...]) -> bytes:
    return to_json(trust_label(untrusted))[1:-1]


def trust_label(untrusted: Sequence[str]) -> dict[str, Any]:
    """The ``_meta`` of what holds words of others at these JSON pointers (``*``: every element)."""
    return {TRUST_META: {"untrusted": [path.removesuffix(AS_SCHEMA) for path in untrusted]}}


def refusal(error: AppError) -> dict[str, Any]:
    """A tool that could not do it: what was wrong, what to do next, whether to try again."""
    return {
        "resultType": COMPLETE,
        "content": [{"type": "text", "text": explain(error)}],
        "isError": True,
        "_meta": {ERROR_META: describe(error), **trust_label(())},
    }


def describe(error: AppError) -> dict[str, Any]:
    """``{"code", "message", "retryable", "hint"?, "retry_after"?, "approval"?}`` and the fields of
    :class:`db.errors.Details`: the error for programs."""
    described: dict[str, Any] = {"code": error.code, "message": error.message, "retryable": error.retryable}
    described.update(error.details)
    if error.hint is not None:
        described["hint"] = error.hint
    if error.retry_after is not None:
        described["retry_after"] = error.retry_after
    if isinstance(error, ApprovalRequiredError):
        asked = error.asked
        described["approval"] = {
            "id": str(asked.id),
            "url": asked.url,
            "effect": asked.preview.effect,
            "expires_at": asked.expires_at.isoformat(),
        }
    return described


def explain(error: AppError) -> str:
    """The error for a model: one sentence each for the fault, the way on and the retry."""
    sentences = [error.message]
    if error.hint:
        sentences.append(error.hint)
    if not error.retryable:
        sentences.append("Trying the same call again will not help.")
    elif error.retry_after is not None:
        sentences.append(f"The same call may be tried again in {error.retry_after} s.")
    else:
        sentences.append("The same call may be tried again.")
    return f"{' '.join(sentences)} [{error.code}]"
