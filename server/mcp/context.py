"""What every MCP handler starts from: the request behind it, and protocol errors for where no result carries one."""

from __future__ import annotations

from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import BaseModel

from db.errors import AppError, invalid
from server.mcp.inbound import Inbound
from server.mcp.results import describe, explain

ONE_PAGE: Final = invalid(
    "This list has one page.",
    "Leave cursor out.",
    "invalid_cursor",
    {"arguments": [{"do": "drop", "at": "cursor"}]},
)

Context = ServerRequestContext[Any, Inbound]


class Checked(BaseModel):
    """Stands for parameters in a handler's signature. The SDK has checked them against the schema of the caller's
    revision by then, so handlers read ``ctx.params`` and nothing is parsed a second time.
    """


def inbound_of(ctx: Context) -> Inbound:
    """The request behind a handler's context."""
    if ctx.request is None:
        raise RuntimeError("an MCP handler was called without a request")
    return ctx.request


def refuse_cursor(ctx: Context) -> None:
    """For lists that have one page."""
    if ctx.params is not None and ctx.params.get("cursor") is not None:
        raise protocol_error(inbound_of(ctx), ONE_PAGE)


def protocol_error(inbound: Inbound, error: AppError, missing: int = INVALID_PARAMS, **more: str) -> MCPError:
    """An error where the protocol knows no result that could carry it. ``missing``: the code of what is not found."""
    inbound.notes["error"] = error.code
    data = {**describe(error), **more}
    if error.status == 404:
        return MCPError(missing, explain(error), data)
    return MCPError(INVALID_PARAMS if error.status < 500 else INTERNAL_ERROR, explain(error), data)
