"""Requests of both eras of MCP, made by hand, and one server for a module of tests of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.server.edge_services import FULL_KEY, EdgeServices, client_of, edge_app, edge_services

MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture(scope="module")
def services() -> EdgeServices:
    return edge_services()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(services: EdgeServices) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(edge_app(services)) as client:
        yield client


@pytest.fixture
def http(shared_client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    shared_client.headers["authorization"] = f"Bearer {FULL_KEY}"
    return shared_client


def request(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}


async def handshake(
    http: httpx2.AsyncClient, method: str, params: dict[str, Any] | None = None, url: str = "/mcp", **headers: str
) -> httpx2.Response:
    sent = {"mcp-protocol-version": "2025-11-25"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.post(url, json=request(method, params), headers=sent)


async def modern(
    http: httpx2.AsyncClient, method: str, params: dict[str, Any] | None = None, url: str = "/mcp", **headers: str
) -> httpx2.Response:
    params = {"_meta": ENVELOPE} | (params or {})
    sent = {"mcp-protocol-version": MODERN, "mcp-method": method}
    if name := params.get("name") or params.get("uri"):
        sent["mcp-name"] = name
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.post(url, json=request(method, params), headers=sent)


ERAS = pytest.mark.parametrize("era", [handshake, modern], ids=["handshake", "modern"])
