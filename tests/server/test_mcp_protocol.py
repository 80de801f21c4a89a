"""Both eras of MCP over a real socket, by hand: what the methods answer, as the specification wants it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from db.ids import uuid7
from tests.server.edge_services import READ_KEY, EdgeServices, error_of, principal
from tests.server.eras import ERAS, INITIALIZE, MODERN, handshake, http, modern, request, services, shared_client

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

__all__ = ["http", "services", "shared_client"]

# One server for the whole module: starting one takes longer than any of these tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")


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
