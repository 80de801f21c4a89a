"""Outcomes and errors of tools in the shape of MCP results: plain dictionaries, ready for the wire."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from db.errors import AppError
from tools.approval import ApprovalRequiredError
from tools.dispatch import Outcome
from tools.result import how_to_go_on

log = logging.getLogger("innkeeper.error")

ERROR_META = "innkeeper/error"
"""The ``_meta`` key that tells clients, which can branch on it, what the text tells the model."""


TRUST_META = "innkeeper/trust"
"""The ``_meta`` key that says which parts of a result others wrote: data, and never instructions."""

COMPLETE = "complete"
"""What every result of the modern era says of itself; the schemas of the handshake era take it out again."""


def success(outcome: Outcome) -> dict[str, Any]:
    """A tool's answer: the same content twice, as data for programs and as text for models.

    In the text, words of others stand between marks, and a sentence of its own says how to get what was cut. The data
    has no marks; its label says where those words are.
    """
    structured = outcome.structured
    content = [{"type": "text", "text": outcome.text}]
    if outcome.rest_from and (more := how_to_go_on(structured, outcome.rest_from)):
        content.append({"type": "text", "text": more})
    return {
        "resultType": COMPLETE,
        "content": content,
        "structuredContent": structured,
        "isError": False,
        "_meta": trust_label(outcome.untrusted),
    }


def trust_label(untrusted: Sequence[str]) -> dict[str, Any]:
    """The ``_meta`` of what holds words of others at these JSON pointers (``*``: every element)."""
    return {TRUST_META: {"untrusted": list(untrusted)}}


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
