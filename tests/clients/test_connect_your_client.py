"""Every snippet of docs/connect-your-client.md, carried out as it stands there, against the product on a socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from tests import node
from tests.claude_code import bundled
from tests.clients.javascript import JavaScript
from tests.conftest import Tenant
from tests.server.command import ROOT
from tests.serving import Served

pytestmark = pytest.mark.promise("MCP-12")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "connect-your-client.md"
SNIPPETS = dict(re.findall(r"<!-- client: ([\w-]+) -->\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
ADDRESS = "http://127.0.0.1:8260"
SECONDS = 100


def snippet(name: str, served: Served) -> str:
    """The snippet with the address of this test's house in the place of the usual one."""
    assert ADDRESS in SNIPPETS[name]
    return str(SNIPPETS[name]).replace(ADDRESS, served.url)


async def run(*command: str, folder: Path, **variables: str) -> str:
    """What a program prints; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**node.environment(), "HOME": str(folder), **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    return said.decode()


def filled(value: Any, variables: dict[str, str]) -> Any:
    """A configuration as a client reads it: its variables filled in."""
    text = json.dumps(value)
    for name, content in variables.items():
        text = text.replace(f"${{{name}}}", content)
    assert "${" not in text
    return json.loads(text)


def test_every_snippet_of_the_page_has_its_test() -> None:
    assert set(SNIPPETS) == {"preview", "claude-code", "cursor", "vscode", "stdio", "mcp-remote", "python"}


async def test_the_preview_line_shows_what_a_connection_sees(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    said = await run("bash", "-c", snippet("preview", served), folder=tmp_path, INNKEEPER_KEY=tenant.token)
    assert json.loads(said)["read_only"] is True


@pytest.mark.timeout(240)
async def test_claude_code_connects(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    variables = {
        "INNKEEPER_KEY": tenant.token,
        "PATH": f"{bundled()}{os.pathsep}{os.environ['PATH']}",
        "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    await run("bash", "-c", snippet("claude-code", served), folder=tmp_path, **variables)
    said = await run("claude", "mcp", "list", folder=tmp_path, **variables)
    (line,) = [line for line in said.splitlines() if line.startswith("innkeeper:")]
    assert served.mcp in line
    assert "Connected" in line


@pytest.mark.parametrize(
    ("client", "servers", "variable"),
    [("cursor", "mcpServers", "env:INNKEEPER_KEY"), ("vscode", "servers", "input:innkeeper-key")],
)
async def test_the_configuration_of_an_editor_connects(
    served: Served, tenant: Tenant, javascript: JavaScript, tmp_path: Path, client: str, servers: str, variable: str
) -> None:
    configuration = filled(json.loads(snippet(client, served)), {variable: tenant.token})
    file = tmp_path / "mcp.json"
    # Cursor knows a remote server by its url, VS Code and the inspector want it said.
    server = {"type": "http", **configuration[servers]["innkeeper"]}
    file.write_text(json.dumps({"mcpServers": {"innkeeper": server}}), encoding="utf-8")
    common = ["--config", str(file), "--server", "innkeeper", "--format", "json", "--quiet"]
    called = await javascript.inspector(*common, "--method", "tools/call", "--tool-name", "list_projects")
    assert called.code == 0, called.err
    found = json.loads(called.out)["result"]["structuredContent"]
    assert [project["id"] for project in found["projects"]] == [str(tenant.project_id)]


async def test_a_client_that_only_starts_programs_starts_ours(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    configuration = json.loads(snippet("stdio", served))["mcpServers"]["innkeeper"]
    assert configuration["command"] == "innkeeper"
    (tmp_path / "key").write_text(tenant.token)
    arguments = ["-P", "-m", "server.cli", *configuration["args"], "--token-file", str(tmp_path / "key")]
    program = StdioServerParameters(command=sys.executable, args=arguments, env={"PYTHONPATH": ROOT})
    async with Client(stdio_client(program)) as client:
        found = (await client.call_tool("list_projects", {})).structured_content
    assert found is not None
    assert [project["id"] for project in found["projects"]] == [str(tenant.project_id)]


async def test_a_client_that_only_starts_programs_connects_through_mcp_remote(
    served: Served, tenant: Tenant, javascript: JavaScript, tmp_path: Path
) -> None:
    configuration = json.loads(snippet("mcp-remote", served))["mcpServers"]["innkeeper"]
    assert configuration["command"] == "npx"
    yes, package, *arguments = configuration["args"]
    installed = json.loads((javascript.modules / "mcp-remote" / "package.json").read_text(encoding="utf-8"))
    assert (yes, package) == ("-y", f"mcp-remote@{installed['version']}")
    environment = filled(configuration["env"], {"INNKEEPER_KEY": tenant.token})
    program = StdioServerParameters(
        command=node.node(),
        args=[str(javascript.modules / "mcp-remote" / "dist" / "proxy.js"), *arguments],
        env={**node.environment(), "HOME": str(tmp_path), "MCP_REMOTE_CONFIG_DIR": str(tmp_path), **environment},
    )
    async with asyncio.timeout(SECONDS), Client(stdio_client(program), mode="legacy") as client:
        assert "create_project" in [tool.name for tool in (await client.list_tools()).tools]
        found = dict((await client.call_tool("list_projects", {})).structured_content or {})
    assert [project["id"] for project in found["projects"]] == [str(tenant.project_id)]


async def test_the_python_client_connects(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(snippet("python", served), encoding="utf-8")
    said = await run(sys.executable, str(script), folder=tmp_path, INNKEEPER_KEY=tenant.token)
    assert str(tenant.project_id) in said
