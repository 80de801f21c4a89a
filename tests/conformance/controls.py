"""Negative controls: what the official suite does not ask, or passes over when it cannot; each fails on one defect.

A control raises ``AssertionError``. All of them hold for production and for the profile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "control", "version": "1"},
}
BOTH = "application/json, text/event-stream"


@dataclass(frozen=True)
class Guest:
    """A client of the server under test, with a key for everything and one that may only read."""

    http: httpx2.AsyncClient
    token: str
    reader: str

    async def post(self, body: Any, *, token: str | None = None, url: str = "/mcp", **headers: str) -> httpx2.Response:
        sent = {"accept": BOTH, "authorization": f"Bearer {token or self.token}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(url, json=body, headers=sent)

    async def modern(
        self, method: str, *, token: str | None = None, url: str = "/mcp", **params: Any
    ) -> httpx2.Response:
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if name := params.get("name") or params.get("uri"):
            headers["mcp-name"] = name
        return await self.post(request(method, {"_meta": META, **params}), token=token, url=url, **headers)

    async def handshake(
        self, method: str, *, token: str | None = None, url: str = "/mcp", **params: Any
    ) -> httpx2.Response:
        return await self.post(request(method, params), token=token, url=url, mcp_protocol_version=HANDSHAKE)

    async def initialize(self, version: str = HANDSHAKE) -> httpx2.Response:
        client = {"name": "control", "version": "1"}
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
        return await self.post(request("initialize", params))


def request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def names(answer: httpx2.Response) -> set[str]:
    return {tool["name"] for tool in answer.json()["result"]["tools"]}


async def a_call_without_a_token_is_401(guest: Guest) -> None:
    headers = {"accept": BOTH, "mcp-protocol-version": HANDSHAKE}
    answer = await guest.http.post("/mcp", json=request("tools/list", {}), headers=headers)
    assert answer.status_code == 401


async def the_401_says_where_tokens_come_from(guest: Guest) -> None:
    answer = await guest.http.post("/mcp", json=request("tools/list", {}), headers={"accept": BOTH})
    assert "resource_metadata=" in answer.headers["www-authenticate"]


async def an_invented_token_is_401(guest: Guest) -> None:
    answer = await guest.post(request("tools/list", {}), token="ik_sk_invented", mcp_protocol_version=HANDSHAKE)
    assert answer.status_code == 401


async def get_is_405(guest: Guest) -> None:
    headers = {"accept": "text/event-stream", "authorization": f"Bearer {guest.token}"}
    answer = await guest.http.get("/mcp", headers=headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def an_answer_is_json_and_says_so(guest: Guest) -> None:
    for answer in (await guest.modern("tools/list"), await guest.handshake("tools/list")):
        assert answer.headers["content-type"] == "application/json"


async def a_foreign_origin_is_403(guest: Guest) -> None:
    answer = await guest.post(request("tools/list", {}), origin="https://evil.example.com")
    assert answer.status_code == 403


async def a_host_that_only_begins_like_ours_is_421(guest: Guest) -> None:
    for host in ("localhost.evil.example.com", "localhost:80@evil.example.com", 'localhost"evil'):
        answer = await guest.post(request("tools/list", {}), host=host)
        assert answer.status_code in (400, 421), host


async def a_batch_is_refused_since_2025_06_18(guest: Guest) -> None:
    answer = await guest.post([request("ping", {})], mcp_protocol_version=HANDSHAKE)
    assert answer.status_code == 400


async def an_unknown_handshake_version_is_negotiated_down(guest: Guest) -> None:
    answer = await guest.initialize("2099-01-01")
    assert answer.json()["result"]["protocolVersion"] == HANDSHAKE


async def no_session_is_opened(guest: Guest) -> None:
    assert "mcp-session-id" not in (await guest.initialize()).headers


async def a_notification_is_202_without_a_body(guest: Guest) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    answer = await guest.post(note, mcp_protocol_version=HANDSHAKE)
    assert (answer.status_code, answer.content) == (202, b"")


async def a_body_that_is_not_json_is_a_parse_error(guest: Guest) -> None:
    headers = {"accept": BOTH, "authorization": f"Bearer {guest.token}", "content-type": "application/json"}
    answer = await guest.http.post("/mcp", content=b"{not json", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32700)


async def a_body_that_does_not_say_json_is_415(guest: Guest) -> None:
    headers = {"accept": BOTH, "authorization": f"Bearer {guest.token}", "content-type": "text/plain"}
    answer = await guest.http.post("/mcp", content=b"{}", headers=headers)
    assert answer.status_code == 415


async def lists_are_private_to_their_caller(guest: Guest) -> None:
    for method in ("tools/list", "resources/list", "resources/templates/list"):
        assert (await guest.modern(method)).json()["result"]["cacheScope"] == "private"


async def a_key_that_reads_sees_no_tool_that_writes(guest: Guest) -> None:
    for call in (guest.modern, guest.handshake):
        listed = names(await call("tools/list", token=guest.reader))
        assert "list_projects" in listed
        assert "delete_project" not in listed


async def a_key_that_reads_calls_no_tool_that_writes(guest: Guest) -> None:
    for call in (guest.modern, guest.handshake):
        answer = await call("tools/call", token=guest.reader, name="create_project", arguments={"name": "mine"})
        assert answer.status_code == 403 or answer.json()["result"]["isError"]
    found = await guest.handshake("tools/call", name="list_projects", arguments={})
    assert '"mine"' not in found.text


async def a_read_only_connection_lists_no_tool_that_writes(guest: Guest) -> None:
    for call in (guest.modern, guest.handshake):
        listed = names(await call("tools/list", url="/mcp?read_only=1"))
        assert "list_projects" in listed
        assert "create_project" not in listed


async def a_tool_is_listed_with_all_four_hints(guest: Guest) -> None:
    tools = (await guest.modern("tools/list")).json()["result"]["tools"]
    for tool in tools:
        assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= set(tool["annotations"])


async def an_unknown_tool_is_a_protocol_error(guest: Guest) -> None:
    for call in (guest.modern, guest.handshake):
        answer = await call("tools/call", name="there_is_no_such_tool", arguments={})
        assert answer.json().get("error", {}).get("code") == -32602


async def an_unknown_method_is_404_in_the_modern_era(guest: Guest) -> None:
    answer = await guest.modern("there/is/no/such/method")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)


async def an_error_carries_the_id_of_its_request(guest: Guest) -> None:
    for call in (guest.modern, guest.handshake):
        assert (await call("there/is/no/such/method")).json()["id"] == 7


async def a_missing_resource_has_the_code_of_its_era(guest: Guest) -> None:
    uri = "innkeeper://nothing/here"
    assert (await guest.modern("resources/read", uri=uri)).json()["error"]["code"] == -32602
    assert (await guest.handshake("resources/read", uri=uri)).json()["error"]["code"] == -32002


Control = Callable[[Guest], Awaitable[None]]
CONTROLS: tuple[Control, ...] = (
    a_call_without_a_token_is_401,
    the_401_says_where_tokens_come_from,
    an_invented_token_is_401,
    get_is_405,
    an_answer_is_json_and_says_so,
    a_foreign_origin_is_403,
    a_host_that_only_begins_like_ours_is_421,
    a_batch_is_refused_since_2025_06_18,
    an_unknown_handshake_version_is_negotiated_down,
    no_session_is_opened,
    a_notification_is_202_without_a_body,
    a_body_that_is_not_json_is_a_parse_error,
    a_body_that_does_not_say_json_is_415,
    lists_are_private_to_their_caller,
    a_key_that_reads_sees_no_tool_that_writes,
    a_key_that_reads_calls_no_tool_that_writes,
    a_read_only_connection_lists_no_tool_that_writes,
    a_tool_is_listed_with_all_four_hints,
    an_unknown_tool_is_a_protocol_error,
    an_unknown_method_is_404_in_the_modern_era,
    an_error_carries_the_id_of_its_request,
    a_missing_resource_has_the_code_of_its_era,
)
