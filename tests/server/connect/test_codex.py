"""Codex itself: its own program reads what ``connect`` wrote, and a session of it calls a tool."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests import node
from tests.server.command import Ended, ended
from tests.server.connect.desk import Desk
from tests.server.edge_services import served
from tests.server.oauth.people import Inn, Person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-40"), pytest.mark.long]
PEERS = Path(__file__).parent / "peers"
CONFIG = ".codex/config.toml"
USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


async def codex(desk: Desk, *arguments: str) -> Ended:
    program = node.install(PEERS) / "@openai" / "codex" / "bin" / "codex.js"
    process = await asyncio.create_subprocess_exec(
        node.node(), program, *arguments, cwd=desk.home, env=desk.environ(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    return await ended(process)


def model() -> Starlette:
    """A model that calls ``list_projects`` of the server ``innkeeper``, then says that this was all."""

    async def responses(request: Request) -> Response:
        asked = await request.json()
        if any(item["type"] == "function_call_output" for item in asked["input"]):
            text = {"type": "output_text", "text": "That is all."}
            item: dict[str, Any] = {"type": "message", "role": "assistant", "id": "m", "content": [text]}
        else:
            called = {"namespace": "mcp__innkeeper", "name": "list_projects", "arguments": "{}"}
            item = {"type": "function_call", "id": "f", "call_id": "c", **called}
        told: list[dict[str, Any]] = [
            {"type": "response.created", "response": {"id": "r"}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {"id": "r", "usage": USAGE}},
        ]
        events = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in told)
        return Response("".join(events), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/responses", responses, methods=["POST"])])


async def test_codex_lists_the_server_and_a_session_of_it_calls_a_tool_signed_in(
    inn: Inn, person: Person, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    (tmp_path / CONFIG).parent.mkdir()
    async with served(model()) as (host, port):
        before = (
            'model = "scripted"\nmodel_provider = "here"\n\n[model_providers.here]\nname = "Here"\n'
            f'base_url = "http://{host}:{port}/v1"\nwire_api = "responses"\n'
        )
        (tmp_path / CONFIG).write_text(before)
        done = await desk.let_in(person, "connect", "codex", "--url", inn.url)
        assert done.code == 0, done.err

        (listed,) = json.loads((await codex(desk, "mcp", "list", "--json")).out)
        assert (listed["name"], listed["enabled"]) == ("innkeeper", True)
        assert (listed["transport"]["type"], listed["transport"]["url"]) == ("streamable_http", inn.resource)
        # The access token ends; Codex asks the command line for headers, and that refreshes it.
        desk.change_tokens(access_token="ik_at_of_before", expires_at=0)
        session = await codex(
            desk, "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "List them"
        )
    said = [json.loads(line)["item"] for line in session.out.splitlines() if '"item.completed"' in line]
    (call,) = [item for item in said if item["type"] == "mcp_tool_call"]
    assert (call["server"], call["tool"], call["error"]) == ("innkeeper", "list_projects", None), session.err
    assert {one["name"] for one in call["result"]["structured_content"]["projects"]} == {"One", "Two"}
    assert said[-1]["text"] == "That is all."

    assert (await desk.run("connect", "--remove")).code == 0
    assert (tmp_path / CONFIG).read_text() == before
    assert json.loads((await codex(desk, "mcp", "list", "--json")).out) == []
