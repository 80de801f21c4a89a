"""From one command to a working agent, as README's first screen tells it, with the real command as a process."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ag_ui_validate.pytest_plugin import assert_valid_agui
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.fakes.openai_server import scripted_model
from tests.fakes.script import ToolCall, Turn
from tests.server.command import SECONDS, ended, spawn


@pytest.mark.promise("HOME-40", "HOME-20")
@pytest.mark.timeout(240)
async def test_one_command_serves_a_client_and_the_printed_curl_line_runs_an_agent(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with scripted_model() as model:
        configured = {
            "INNKEEPER_MODEL": "openai-chat:scripted",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "sk-of-the-operator",
        }
        house = await spawn(
            "up", "--port", "0", "--no-detect", "--data", tmp_path / "inn", cwd=tmp_path, environ=configured
        )
        try:
            welcome = await printed(house)
            url = found(r"MCP endpoint +(\S+)", welcome)
            key = Path(found(r"secret key +(\S+)", welcome)).read_text(encoding="utf-8").strip()
            assert key not in welcome, "whoever reads a log would have the key"

            headers = {"authorization": f"Bearer {key}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                assert "create_project" in {tool.name for tool in (await client.list_tools()).tools}

                events = await shell(found(r"^ +(curl .+)$", welcome))
                assert_valid_agui(events)
                assert events[-1]["type"] == "RUN_FINISHED"
                called = [event["toolCallName"] for event in events if event["type"] == "TOOL_CALL_START"]
                assert called == ["create_project", "list_projects"]
                text = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
                assert "create_project: made 'Demo project'" in text
                again = await shell(found(r"^ +(curl .+)$", welcome))
                assert again == events, "the same run, not another one"
                names = [project["name"] for project in await projects(client)]
                assert "Demo project" in names

                model.script(Turn(ToolCall("list_projects", {})), Turn("Two rooms."))
                project = (await projects(client))[0]["id"]
                asked = {
                    "threadId": "t",
                    "runId": "r",
                    "messages": [{"id": "1", "role": "user", "content": "How many?"}],
                }
                run = await http.post(f"{url.removesuffix('/mcp')}/agui?project={project}", json=asked, timeout=60)
                assert "Two rooms." in run.text
                assert '"RUN_FINISHED"' in run.text
                assert {request.authorization for request in model.requests} == {"Bearer sk-of-the-operator"}
        finally:
            if house.returncode is None:
                house.send_signal(signal.SIGINT)
            stopped = await ended(house)
    assert stopped.code == 0, stopped.err
    assert "stopped" in stopped.err
    assert "Traceback" not in stopped.err


async def printed(house: asyncio.subprocess.Process) -> str:
    """What ``up`` tells the person who started it, to its last line."""
    assert house.stdout is not None
    said = ""
    async with asyncio.timeout(SECONDS):
        while "Stop with Ctrl-C" not in said:
            line = await house.stdout.readline()
            assert line, (await ended(house)).err
            said += line.decode()
    return said


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, text
    return str(match[1])


async def shell(line: str) -> list[dict[str, Any]]:
    """Carry out a line as a person would paste it; the events it shows."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [json.loads(found[5:]) for found in out.decode().splitlines() if found.startswith("data:")]


async def projects(client: Client) -> list[dict[str, str]]:
    result = await client.call_tool("list_projects", {})
    structured = result.structured_content
    assert isinstance(structured, dict)
    listed: list[dict[str, str]] = structured["projects"]
    return listed
