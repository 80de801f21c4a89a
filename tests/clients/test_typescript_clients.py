"""The TypeScript SDKs, v1 and v2, and the Inspector's command line: clients that were not written here."""

from __future__ import annotations

import json

import pytest

from tests.clients.javascript import JavaScript
from tests.conftest import Owner, Tenant
from tests.serving import Served

SDKS = [("v1", "2025-11-25"), ("v2", "2026-07-28")]


@pytest.mark.promise("HOME-40", "HOME-10")
@pytest.mark.parametrize(("sdk", "version"), SDKS)
async def test_the_typescript_client_lists_calls_reads_and_understands_refusals(
    served: Served, tenant: Tenant, owner: Owner, javascript: JavaScript, sdk: str, version: str
) -> None:
    name = f"From TypeScript {sdk}"
    said = await javascript.script("mcp", {"sdk": sdk, "url": served.mcp, "token": tenant.token, "name": name})
    assert said["protocol"] == version
    assert said["server"] == "innkeeper"

    assert said["tools"]["delete_project"] == {
        "title": "Delete project",
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": True,
        "openWorldHint": False,
    }
    assert said["readable"]
    assert all(said["tools"][tool]["readOnlyHint"] for tool in said["readable"])
    assert set(said["readable"]) < set(said["tools"])

    assert said["created"]["name"] == name
    assert said["fetched"] == said["created"] == said["text"] == said["resource"]
    assert str(await owner.fetchval("SELECT id FROM projects WHERE name = $1", name)) == said["created"]["id"]

    assert said["missing"]["isError"] is True
    assert "list_projects" in said["missing"]["content"][0]["text"]
    assert said["missing"]["_meta"]["innkeeper/error"]["code"] == "project_not_found"
    assert said["unknown"]["code"] == -32602
    assert "There is no tool 'open_the_minibar'" in said["unknown"]["message"]

    for refused in (said["without_token"], said["wrong_token"]):
        assert 401 in (refused["code"], refused["status"])


@pytest.mark.promise("HOME-40")
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_inspector_finds_portable_tool_schemas_and_calls_a_tool(
    served: Served, tenant: Tenant, javascript: JavaScript, era: str
) -> None:
    common = [served.mcp, "--header", f"Authorization: Bearer {tenant.token}", "--format", "json", "--quiet"]
    common += ["--protocol-era", era]
    listed = await javascript.inspector(*common, "--method", "tools/list", "--strict")
    assert listed.code == 0, listed.err
    assert "create_project" in [tool["name"] for tool in json.loads(listed.out)["result"]["tools"]]
    called = await javascript.inspector(*common, "--method", "tools/call", "--tool-name", "list_projects")
    assert called.code == 0, called.err
    result = json.loads(called.out)["result"]
    assert [project["id"] for project in result["structuredContent"]["projects"]] == [str(tenant.project_id)]


@pytest.mark.promise("HOME-40")
async def test_the_inspector_is_refused_without_a_key(served: Served, javascript: JavaScript) -> None:
    refused = await javascript.inspector(served.mcp, "--method", "tools/list", "--format", "json", "--stored-auth-only")
    assert refused.code != 0
    told = json.loads(refused.err)["error"]
    assert told["code"] == "auth_required"
    assert "Send 'Authorization: Bearer <key>'" in told["message"]
