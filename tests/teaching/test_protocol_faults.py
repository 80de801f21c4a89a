"""Requests that are wrong as requests are answered in the same terms as everything else that fails."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.server.edge_services import client_of, edge_app, edge_services

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
OLD = {**LIST, "params": {"_meta": {**META, "io.modelcontextprotocol/protocolVersion": "1999-01-01"}}}
MODERN = {"mcp-protocol-version": VERSION, "mcp-method": "tools/list"}


def sent(code: str, method: str = "POST", headers: dict[str, str] | None = None, **body: Any) -> Any:
    return pytest.param(method, headers or {}, body, code, id=f"{code}-{len(str(body))}")


@pytest.mark.promise("MCP-09")
@pytest.mark.parametrize(
    ("method", "headers", "body", "code"),
    [
        sent("parse_error", content=b'{"jsonrpc": ', headers={"content-type": "application/json"}),
        sent("invalid_request", json={"hello": "world"}),
        sent("invalid_request", json=[], headers={"mcp-protocol-version": "2025-03-26"}),
        sent("invalid_request", json=[CALL], headers={"mcp-protocol-version": "2025-11-25"}),
        sent("method_not_found", json={**CALL, "method": "tools/invent"}),
        sent("method_not_found", json={**LIST, "method": "x"}, headers={**MODERN, "mcp-method": "x"}),
        sent("invalid_params", json={**CALL, "params": {}}),
        sent("header_mismatch", json=LIST, headers={**MODERN, "mcp-method": "tools/call"}),
        sent("unsupported_protocol_version", json=OLD, headers={**MODERN, "mcp-protocol-version": "1999-01-01"}),
        sent("unknown_tool", json={**CALL, "params": {"name": "ecko"}}),
        sent("invalid_cursor", json={**CALL, "method": "tools/list", "params": {"cursor": "2"}}),
        sent("method_not_allowed", "GET"),
        sent("content_type_not_supported", content=b"x", headers={"content-type": "text/plain"}),
        sent("answer_not_acceptable", json=CALL, headers={"accept": "text/html"}),
    ],
)
async def test_a_request_that_is_wrong_itself_gets_a_code_a_hint_and_whether_to_retry(
    method: str, headers: dict[str, str], body: dict[str, Any], code: str
) -> None:
    async with client_of(edge_app(edge_services())) as http:
        answer = await http.request(method, "/mcp", headers=headers, **body)
    told = error_of(answer)["data"]
    assert told["code"] == code
    assert told["retryable"] is False
    assert len(told["hint"]) > 10
    if code == "unknown_tool":
        assert told["did_you_mean"] == "echo"
        assert "echo" in told["hint"]


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    return dict(answer.json()["error"])
