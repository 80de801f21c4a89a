"""One call of a tool, from what an edge has parsed to the result it prints. Every lane calls tools through here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from db.errors import AppError
from db.spans import IDLE
from server import telemetry
from server.http.problem import crash
from server.mcp.inbound import Inbound
from server.mcp.results import refusal, success
from tools.approval import Answer, ApprovalRequiredError
from tools.contract import Progress
from tools.dispatch import Dispatch
from tools.outcome import Outcome

log = logging.getLogger("innkeeper.error")

IDEMPOTENCY_META: Final = "innkeeper/idempotency_key"


async def called(
    dispatch: Dispatch,
    inbound: Inbound,
    name: str,
    arguments: Mapping[str, Any],
    key: str | None,
    *,
    links: bool,
    progress: Progress | None = None,
    answer: Answer | None = None,
) -> dict[str, Any]:
    """The result of a call, as MCP has it: errors a caller can mend are results, so that models see them. ``links``:
    the caller's revision knows links to resources.

    Raises ``ApprovalRequiredError`` when a person has to be asked first; how is for the lane to say.
    """
    came = await attempted(dispatch, inbound, name, arguments, key, progress=progress, answer=answer)
    return came if isinstance(came, dict) else success(came, links=links)


async def attempted(
    dispatch: Dispatch,
    inbound: Inbound,
    name: str,
    arguments: Mapping[str, Any],
    key: str | None,
    *,
    progress: Progress | None = None,
    answer: Answer | None = None,
) -> Outcome | dict[str, Any]:
    """What came of a call: its outcome, or the result that says why there is none.

    Raises ``ApprovalRequiredError`` when a person has to be asked first; how is for the lane to say.
    """
    inbound.notes["tool"] = name
    # The headers are decoded for a span only.
    with telemetry.server_span(f"tools/call {name}", inbound.headers) if telemetry.active() else IDLE:
        try:
            return await dispatch.call(
                inbound.principal,
                name,
                arguments,
                narrowing=inbound.narrowing,
                idempotency_key=key,
                progress=progress,
                answer=answer,
            )
        except ApprovalRequiredError:
            raise
        except AppError as error:
            inbound.notes["error"] = error.code
            return refusal(error)
        except Exception:
            log.exception("tool crashed", extra={"tool": name})
            inbound.notes["error"] = "internal_error"
            return refusal(crash())


def idempotency_key(meta: Mapping[str, Any] | None, header: str | None) -> str | None:
    """From ``_meta``, which names this call, else from the header, which clients behind a gateway can set."""
    if meta and IDEMPOTENCY_META in meta:
        return str(meta[IDEMPOTENCY_META])
    return header
