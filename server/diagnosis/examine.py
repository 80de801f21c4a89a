"""Everything that can be wrong with an MCP connection, in the order in which it goes wrong. Works with any server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlunsplit

import httpx2

from server.diagnosis import authorization, endpoint, network, protocol
from server.diagnosis import token as tokens
from server.diagnosis.wire import INITIALIZE, SECONDS, Wire
from server.finding import Finding

HIDDEN = "(the token)"


async def examine(url: str, token_file: Path | None) -> AsyncIterator[Finding]:
    """Findings up to the first beyond which nothing can be said. No finding has the token in it."""
    token, said = tokens.read(token_file) if token_file is not None else (None, [])
    for finding in said:
        yield finding
    async for finding in _examine(url, token):
        yield (
            finding if token is None else Finding(finding.subject, finding.verdict, finding.said.replace(token, HIDDEN))
        )


async def _examine(url: str, token: str | None) -> AsyncIterator[Finding]:
    parts, said = network.address(url)
    for finding in said:
        yield finding
    if parts is None:
        return
    async for finding in network.reach(parts):
        yield finding
        if finding.verdict == "fault":
            return
    url = urlunsplit(parts._replace(fragment=""))
    async with httpx2.AsyncClient(timeout=SECONDS, verify=ssl.create_default_context()) as http:
        async for finding in _speak(Wire(http, url, token)):
            yield finding


async def _speak(wire: Wire) -> AsyncIterator[Finding]:
    first = await wire.call("initialize", INITIALIZE, token=False)
    kind, finding = await endpoint.judge(wire, first)
    yield finding
    if kind == "no":
        return
    if kind == "locked":
        async for finding in authorization.examine(wire, first, has_token=wire.token is not None):
            yield finding
        if wire.token is None:
            said = "Without a token nothing more can be seen: give one with --token-file FILE."
            yield Finding("token", "note", said)
            return
        entered = await wire.call("initialize", INITIALIZE)
        if entered.status in (401, 403):
            yield tokens.refused(entered, wire.token, wire.url)
            return
        yield Finding("token", "ok", "The token is accepted.")
    yield await endpoint.origins(wire)
    async for finding in protocol.examine(wire):
        yield finding
