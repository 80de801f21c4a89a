"""Both eras of MCP over a real socket, by hand: statuses, headers and JSON-RPC as the specification wants them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from db.ids import uuid7
from tests.server.edge_services import (
    FULL_KEY,
    READ_KEY,
    EdgeServices,
    client_of,
    edge_app,
    edge_services,
    error_of,
    principal,
)

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


# One server for the whole module: starting one takes longer than any of these tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")


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


@pytest.mark.promise("HOME-10")
@pytest.mark.parametrize("version", HANDSHAKE_VERSIONS)
async def test_initialize_negotiates_every_handshake_version_without_a_session(
    http: httpx2.AsyncClient, version: str
) -> None:
    answer = await http.post("/mcp", json=request("initialize", INITIALIZE | {"protocolVersion": version}))
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert "mcp-session-id" not in answer.headers
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["title"] == "Innkeeper"
    assert result["serverInfo"]["version"]
    assert result["capabilities"] == {
        "completions": {},
        "prompts": {"listChanged": False},
        "tools": {"listChanged": False},
        "resources": {"subscribe": False, "listChanged": False},
    }
    assert "list_projects" in result["instructions"]


@pytest.mark.promise("HOME-10")
async def test_initialize_offers_the_latest_handshake_version_to_a_client_of_the_future(
    http: httpx2.AsyncClient,
) -> None:
    answer = await http.post("/mcp", json=request("initialize", INITIALIZE | {"protocolVersion": "2099-01-01"}))
    assert answer.json()["result"]["protocolVersion"] == "2025-11-25"


@pytest.mark.promise("HOME-10")
async def test_discover_describes_the_server_and_promises_no_notifications(http: httpx2.AsyncClient) -> None:
    answer = await modern(http, "server/discover")
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert result["supportedVersions"] == [MODERN]
    assert result["capabilities"]["tools"] == {"listChanged": False}
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["title"] == "Innkeeper"
    assert result["cacheScope"] == "private"


@pytest.mark.promise("HOME-10")
@ERAS
async def test_a_tool_answers_with_structure_and_the_same_as_text(http: httpx2.AsyncClient, era: Any) -> None:
    answer = await era(http, "tools/call", {"name": "echo", "arguments": {"text": "ei 🥚"}})
    result = answer.json()["result"]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert result["structuredContent"] == {"said": "ei 🥚"}
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert result["isError"] is False


@pytest.mark.promise("HOME-10")
@ERAS
async def test_a_null_in_structured_content_survives(http: httpx2.AsyncClient, era: Any) -> None:
    answer = await era(http, "tools/call", {"name": "find_nothing"})
    assert answer.json()["result"]["structuredContent"] == {"found": None}


@pytest.mark.promise("HOME-10")
@ERAS
async def test_every_tool_is_listed_with_schemas_and_all_four_hints_in_a_stable_order(
    http: httpx2.AsyncClient, services: EdgeServices, era: Any
) -> None:
    first, second = await era(http, "tools/list"), await era(http, "tools/list")
    assert first.content == second.content
    tools = first.json()["result"]["tools"]
    assert [tool["name"] for tool in tools] == [spec.name for spec in services.catalog.tools]
    for tool in tools:
        assert tool["title"]
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"
        assert set(tool["annotations"]) == {
            "title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"
        }  # fmt: skip


@pytest.mark.promise("HOME-10")
async def test_modern_lists_are_private_to_the_caller_and_say_how_long_they_hold(http: httpx2.AsyncClient) -> None:
    for method, ttl in {"tools/list": 60_000, "resources/list": 0, "resources/templates/list": 60_000}.items():
        result = (await modern(http, method)).json()["result"]
        assert (result["cacheScope"], result["ttlMs"]) == ("private", ttl)


@pytest.mark.promise("HOME-10")
@ERAS
async def test_lists_show_only_what_the_scopes_of_the_key_allow(http: httpx2.AsyncClient, era: Any) -> None:
    http.headers["authorization"] = f"Bearer {READ_KEY}"
    tools = (await era(http, "tools/list")).json()["result"]["tools"]
    assert "echo" in {tool["name"] for tool in tools}
    assert "change_something" not in {tool["name"] for tool in tools}


@pytest.mark.promise("HOME-10", "MCP-04")
@ERAS
async def test_a_tool_beyond_the_scopes_says_so_to_model_program_and_oauth_client(
    http: httpx2.AsyncClient, era: Any
) -> None:
    http.headers["authorization"] = f"Bearer {READ_KEY}"
    answer = await era(http, "tools/call", {"name": "change_something"})
    assert answer.status_code == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope", scope="projects:read projects:write runs:read"' in challenge
    assert f'resource_metadata="{http.base_url}/.well-known/oauth-protected-resource/mcp"' in challenge
    reply = answer.json()
    assert reply["id"] == 1
    told = reply["error"]["data"]
    assert (told["code"], told["retryable"], told["ask"]) == ("insufficient_scope", False, {"scope": "projects:write"})
    assert "projects:write" in told["hint"]
    assert "projects:write" in reply["error"]["message"]


@pytest.mark.promise("HOME-10")
@ERAS
async def test_an_error_says_what_was_wrong_what_to_do_and_when_to_retry(http: httpx2.AsyncClient, era: Any) -> None:
    result = (await era(http, "tools/call", {"name": "fail_for_now"})).json()["result"]
    assert result["isError"] is True
    assert "in 2 s" in result["content"][0]["text"]
    described = result["_meta"]["innkeeper/error"]
    assert (described["code"], described["retryable"], described["retry_after"]) == ("unavailable", True, 2)
    assert described["hint"]


@pytest.mark.promise("HOME-10")
@ERAS
async def test_wrong_arguments_are_an_error_the_model_can_mend(http: httpx2.AsyncClient, era: Any) -> None:
    result = (await era(http, "tools/call", {"name": "echo", "arguments": {"txt": "x"}})).json()["result"]
    assert result["isError"] is True
    assert "text" in result["content"][0]["text"]


@ERAS
async def test_a_crashing_tool_tells_nothing_but_the_request_id(
    http: httpx2.AsyncClient, era: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await era(http, "tools/call", {"name": "crash_with_a_secret"})
    assert answer.json()["result"]["isError"] is True
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert "hunter2" in caplog.text


@pytest.mark.promise("HOME-10")
@pytest.mark.parametrize(("era", "status"), [(handshake, 200), (modern, 400)])
async def test_an_unknown_tool_is_a_protocol_error(http: httpx2.AsyncClient, era: Any, status: int) -> None:
    answer = await era(http, "tools/call", {"name": "no_such_tool"})
    assert (answer.status_code, error_of(answer)["code"]) == (status, -32602)


@pytest.mark.parametrize(("era", "status"), [(handshake, 200), (modern, 404)])
async def test_an_unknown_method_is_method_not_found(http: httpx2.AsyncClient, era: Any, status: int) -> None:
    answer = await era(http, "no/such")
    assert (answer.status_code, error_of(answer)["code"]) == (status, -32601)


async def test_ping_belongs_to_the_handshake_era_only(http: httpx2.AsyncClient) -> None:
    assert (await handshake(http, "ping")).json()["result"] == {}
    assert (await modern(http, "ping")).status_code == 404


@ERAS
async def test_a_cursor_on_a_list_of_one_page_is_refused(http: httpx2.AsyncClient, era: Any) -> None:
    for method in ("tools/list", "resources/list", "resources/templates/list"):
        assert error_of(await era(http, method, {"cursor": "x"}))["code"] == -32602


@pytest.mark.promise("HOME-10")
@ERAS
async def test_narrowing_to_a_project_takes_the_parameter_away_and_fills_it_in(
    http: httpx2.AsyncClient, era: Any
) -> None:
    project = str(uuid7())
    url = f"/mcp?project={project}"
    tools = {tool["name"]: tool for tool in (await era(http, "tools/list", url=url)).json()["result"]["tools"]}
    assert "project_id" not in tools["look_around"]["inputSchema"]["properties"]
    answer = await era(http, "tools/call", {"name": "look_around"}, url=url)
    assert answer.json()["result"]["structuredContent"] == {"said": project}


@pytest.mark.promise("HOME-10")
@ERAS
async def test_read_only_hides_and_refuses_every_tool_that_changes_something(
    http: httpx2.AsyncClient, era: Any
) -> None:
    url = "/mcp?read_only=1"
    tools = (await era(http, "tools/list", url=url)).json()["result"]["tools"]
    assert all(tool["annotations"]["readOnlyHint"] for tool in tools)
    result = (await era(http, "tools/call", {"name": "change_something"}, url=url)).json()["result"]
    assert result["isError"] is True


@pytest.mark.promise("HOME-10")
@pytest.mark.parametrize("query", ["project=nonsense", "read_only=maybe", "project="])
async def test_a_narrowing_that_is_none_is_400_with_a_sentence(http: httpx2.AsyncClient, query: str) -> None:
    answer = await handshake(http, "tools/list", url=f"/mcp?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in error_of(answer)["message"]


@pytest.mark.promise("HOME-10")
async def test_a_url_cannot_widen_a_key_that_is_bound_to_a_project(
    http: httpx2.AsyncClient, services: EdgeServices
) -> None:
    services.authenticator.tokens["bound"] = principal(project_id=uuid7())
    http.headers["authorization"] = "Bearer bound"
    answer = await handshake(http, "tools/list", url=f"/mcp?project={uuid7()}")
    assert answer.status_code == 400


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"jsonrpc": "2.0",}', b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b'{"a":' * 100_000,
        b"NaN", b'{"id": NaN}', b"{} {}",
    ],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
async def test_malformed_json_is_a_parse_error_without_an_id(
    http: httpx2.AsyncClient, version: str, body: bytes
) -> None:
    headers = {"content-type": "application/json", "mcp-protocol-version": version}
    answer = await http.post("/mcp", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["id"] is None
    assert error_of(answer)["code"] == -32700


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    "message",
    [
        1, "text", None, [], {}, {"id": 1}, {"jsonrpc": "2.0", "id": 1}, {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"}, {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, {"jsonrpc": "2.0", "id": 1, "method": 7},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, {"jsonrpc": "2.0", "method": "x", "params": 3},
        [request("ping")],
    ],
    ids=repr,
)  # fmt: skip
async def test_json_that_is_no_single_message_is_an_invalid_request(
    http: httpx2.AsyncClient, version: str, message: Any
) -> None:
    headers = {"content-type": "application/json", "mcp-protocol-version": version}
    answer = await http.post("/mcp", content=json.dumps(message), headers=headers)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == -32600


async def test_a_batch_is_answered_in_the_revisions_that_have_batches(http: httpx2.AsyncClient) -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    batch = [request("ping"), notification, {"jsonrpc": "2.0", "id": "b", "method": "no/such"}, 7]
    answer = await http.post("/mcp", json=batch, headers={"mcp-protocol-version": "2025-03-26"})
    assert answer.status_code == 200
    assert [(reply["id"], "result" in reply) for reply in answer.json()] == [(1, True), ("b", False), (None, False)]
    silent = await http.post("/mcp", json=[notification], headers={"mcp-protocol-version": "2025-03-26"})
    assert (silent.status_code, silent.content) == (202, b"")


@pytest.mark.parametrize("size", [0, 51])
async def test_a_batch_of_none_or_too_many_is_refused(http: httpx2.AsyncClient, size: int) -> None:
    answer = await http.post("/mcp", json=[request("ping")] * size, headers={"mcp-protocol-version": "2025-03-26"})
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32600)


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
async def test_a_notification_is_accepted_without_a_body(http: httpx2.AsyncClient, version: str) -> None:
    for method in ("notifications/initialized", "notifications/cancelled", "notifications/unheard"):
        answer = await http.post(
            "/mcp", json={"jsonrpc": "2.0", "method": method}, headers={"mcp-protocol-version": version}
        )
        assert (answer.status_code, answer.content) == (202, b"")


async def test_a_posted_reply_is_accepted_in_the_handshake_era_and_refused_in_the_modern(
    http: httpx2.AsyncClient,
) -> None:
    reply = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert (await http.post("/mcp", json=reply)).status_code == 202
    assert (await http.post("/mcp", json=reply, headers={"mcp-protocol-version": MODERN})).status_code == 400


@pytest.mark.promise("HOME-11")
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD", "OPTIONS"])
async def test_every_method_but_post_is_405(http: httpx2.AsyncClient, version: str, method: str) -> None:
    headers = {"mcp-protocol-version": version, "accept": "text/event-stream"}
    answer = await http.request(method, "/mcp", headers=headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""])
async def test_a_content_type_that_is_not_json_is_415(http: httpx2.AsyncClient, kind: str) -> None:
    answer = await http.post("/mcp", content=json.dumps(request("ping")), headers={"content-type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("Application/*;q=0.5, text/html", 200),
        ("text/event-stream", 406),
        ("text/html", 406),
        ("", 406),
    ],
)
async def test_a_client_must_accept_json(http: httpx2.AsyncClient, accept: str, status: int) -> None:
    answer = await http.post("/mcp", json=request("ping"), headers={"accept": accept})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/list"},
        {"mcp-method": ""},
        {"mcp-name": "other"},
        {"mcp-name": "=?base64?!!?="},
        {"mcp-protocol-version": "2026-07-29"},
    ],
    ids=repr,
)
async def test_modern_headers_that_contradict_the_body_are_refused(
    http: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    sent = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"} | headers
    body = request("tools/call", {"name": "echo", "arguments": {"text": "x"}, "_meta": ENVELOPE})
    answer = await http.post("/mcp", json=body, headers=sent)
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32020)


async def test_a_repeated_routing_header_is_refused(http: httpx2.AsyncClient) -> None:
    sent = [("mcp-protocol-version", MODERN), ("mcp-method", "server/discover"), ("Mcp-Method", "server/discover")]
    answer = await http.post("/mcp", json=request("server/discover", {"_meta": ENVELOPE}), headers=sent)
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32020)


async def test_a_version_nobody_speaks_is_refused_with_those_we_do(http: httpx2.AsyncClient) -> None:
    envelope = ENVELOPE | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    answer = await modern(http, "server/discover", {"_meta": envelope}, mcp_protocol_version="2099-01-01")
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32022)
    assert error_of(answer)["data"]["supported"] == [MODERN]


async def test_a_request_without_its_envelope_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await modern(http, "server/discover", {"_meta": {}})
    assert (answer.status_code, error_of(answer)["code"]) == (400, -32602)


async def test_parameter_headers_are_compared_with_the_arguments(http: httpx2.AsyncClient) -> None:
    call = {"name": "echo_from_region", "arguments": {"region": "eu"}}
    assert (await modern(http, "tools/call", call, mcp_param_region="eu")).status_code == 200
    wrong = await modern(http, "tools/call", call, mcp_param_region="us")
    missing = await modern(http, "tools/call", call)
    assert [error_of(answer)["code"] for answer in (wrong, missing)] == [-32020, -32020]


@pytest.mark.parametrize(("era", "code"), [(handshake, -32002), (modern, -32602)])
async def test_a_missing_resource_is_named_in_the_error_of_its_era(
    http: httpx2.AsyncClient, era: Any, code: int
) -> None:
    uri = f"innkeeper://nothing/{uuid7()}"
    error = error_of(await era(http, "resources/read", {"uri": uri}))
    assert error["code"] == code
    assert error["data"]["uri"] == uri


@ERAS
async def test_resources_are_templates_until_a_project_is_chosen(http: httpx2.AsyncClient, era: Any) -> None:
    project = str(uuid7())
    templates = (await era(http, "resources/templates/list")).json()["result"]["resourceTemplates"]
    assert [template["uriTemplate"] for template in templates] == ["innkeeper://edges/{project_id}"]
    assert (await era(http, "resources/list")).json()["result"]["resources"] == []
    (listed,) = (await era(http, "resources/list", url=f"/mcp?project={project}")).json()["result"]["resources"]
    assert listed["uri"] == f"innkeeper://edges/{project}"
    (content,) = (await era(http, "resources/read", {"uri": listed["uri"]})).json()["result"]["contents"]
    assert content["uri"] == listed["uri"]
    assert json.loads(content["text"]) == {"said": project}


async def test_a_trailing_slash_is_the_same_endpoint_and_no_redirect(http: httpx2.AsyncClient) -> None:
    assert (await handshake(http, "ping", url="/mcp/")).status_code == 200
