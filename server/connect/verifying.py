"""Proof that an endpoint works with a token: a real handshake, its tools, and one call that only reads."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from server.refusal import Refusal

SECONDS: Final = 30.0
FIRST: Final = ("get_project", "list_projects")
"""The first of a connection that is narrowed to a project: only then it needs no argument."""


@dataclass(frozen=True, slots=True)
class Verified:
    """``called``: the tool that was called and answered, if there is one that only reads and needs nothing."""

    server: str
    protocol: str
    tools: int
    called: str | None


async def verify(mcp_url: str, token: str) -> Verified:
    """Raises :class:`Refusal` with what went wrong."""
    from mcp.client.client import Client
    from mcp.client.streamable_http import streamable_http_client

    # What the client's log says of a fault stands in the refusal.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(SECONDS),
            httpx2.AsyncClient(headers=headers, timeout=SECONDS) as http,
            Client(streamable_http_client(mcp_url, http_client=http)) as client,
        ):
            tools = (await client.list_tools()).tools
            name = _harmless(tools)
            if name is not None:
                answer = await client.call_tool(name, {})
                if answer.is_error:
                    raise Refusal(f"{mcp_url} answers, but {name} failed: {_text(answer)}")
            info = client.server_info
            server = f"{info.name} {info.version}" if info else "a server without a name"
            return Verified(server, client.protocol_version, len(tools), name)
    except Refusal:
        raise
    except Exception as error:  # noqa: BLE001  (whatever a client of a library says, a person reads)
        raise _refused(mcp_url, error) from None


def _harmless(tools: Any) -> str | None:
    """A tool that only reads and needs no argument; the usual one before any other."""
    fit = [
        tool.name
        for tool in tools
        if tool.annotations is not None and tool.annotations.read_only_hint and not tool.input_schema.get("required")
    ]
    return next((name for name in (*FIRST, *fit) if name in fit), None)


def _text(answer: Any) -> str:
    return " ".join(getattr(part, "text", "") for part in answer.content)[:300]


def _refused(mcp_url: str, error: BaseException) -> Refusal:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Refusal):
        return error
    said = str(error) or type(error).__name__
    said = said[:300].rstrip(". ")
    return Refusal(f"{mcp_url} did not pass a handshake and a call: {said}. Try 'innkeeper doctor --mcp'.")
