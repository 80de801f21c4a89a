"""``innkeeper stdio``: the house as a program on standard input and output, for clients that only start programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from tests.clients.javascript import installed
from tests.server.command import ended
from tests.server.connect.desk import Desk
from tests.server.edge_services import FULL_KEY, EdgeServices, edge_app, edge_services, served
from tests.server.oauth.people import Inn
from tests.server.test_long_work import Workshop
from tools.catalog import Catalog
from tools.dispatch import Dispatch

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-40")]
ERAS = ["legacy", "2026-07-28"]


def program(desk: Desk, *arguments: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-P", "-m", "server.cli", "stdio", *arguments], env=desk.environ(), cwd=desk.home
    )


async def started(desk: Desk, *arguments: str) -> asyncio.subprocess.Process:
    return await desk.start("stdio", *arguments, stdin=asyncio.subprocess.PIPE)


async def said(process: asyncio.subprocess.Process, message: dict[str, Any]) -> dict[str, Any]:
    """What is answered to a message."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    async with asyncio.timeout(60):
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


@contextlib.asynccontextmanager
async def connected(desk: Desk, mode: str, *arguments: str) -> AsyncIterator[Client]:
    async with Client(stdio_client(program(desk, *arguments)), mode=mode) as client:
        yield client


def house(workshop: Workshop) -> Starlette:
    catalog = Catalog(workshop.tools())
    return edge_app(EdgeServices(catalog, Dispatch(edge_services().dispatch.services, catalog)))


async def projects(client: Client) -> set[str]:
    answer = await client.call_tool("list_projects", {})
    assert answer.is_error is False
    assert answer.structured_content is not None
    return {project["name"] for project in answer.structured_content["projects"]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(inn: Inn, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """That of somebody with two projects, who has signed in at its terminal."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    async with inn.person() as person:
        done = await desk.let_in(person, "login", inn.url)
        assert done.code == 0, done.err
        yield desk


async def test_a_program_is_signed_in_by_device_flow_and_stays_so_while_its_tokens_end(inn: Inn, desk: Desk) -> None:
    for mode in ERAS:
        async with connected(desk, mode, f"{inn.resource}?read_only=1") as client:
            assert "create_project" not in {tool.name for tool in (await client.list_tools()).tools}
            assert await projects(client) == {"One", "Two"}
            desk.change_tokens(access_token="ik_at_that_has_ended", expires_at=0)
            assert await projects(client) == {"One", "Two"}
            desk.change_tokens(access_token="ik_at_that_is_refused")
            assert await projects(client) == {"One", "Two"}


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key").write_text(f"{FULL_KEY}\n")
    return str(tmp_path / "key")


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_comes_while_the_work_goes_on_and_who_cancels_ends_a_read(
    workshop: Workshop, tmp_path: Path, key: str, mode: str
) -> None:
    heard = asyncio.Event()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        heard.set()

    async with (
        served(house(workshop)) as (host, port),
        connected(Desk(tmp_path), mode, f"http://{host}:{port}/mcp", "--token-file", key) as client,
    ):
        calling = asyncio.create_task(client.call_tool("read_much", {}, progress_callback=progress))
        async with asyncio.timeout(60):
            await heard.wait()
            assert not calling.done()
            calling.cancel()
            await workshop.cancelled.wait()
        workshop.go_on.set()
        answer = await client.call_tool("read_much", {})
        assert answer.structured_content == {"told": "much"}


async def test_a_call_that_the_house_cut_off_is_told_and_one_while_it_restarts_waits_for_it(
    workshop: Workshop, tmp_path: Path, key: str
) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    workshop.go_on.set()
    ping = {"jsonrpc": "2.0", "id": "a", "method": "ping"}
    async with await asyncio.start_server(hang_up, "127.0.0.1") as gone:
        host, port = gone.sockets[0].getsockname()
        url = f"http://{host}:{port}/mcp"
        process = await started(Desk(tmp_path), url, "--token-file", key)
        assert "whether it was done is not known" in (await said(process, ping))["error"]["message"]
    waiting = asyncio.create_task(said(process, ping))
    async with served(house(workshop), port=port):
        assert (await waiting)["result"] == {}
    assert process.stdin is not None
    process.stdin.write_eof()
    assert (await ended(process)).code == 0


async def test_what_answers_no_mcp_is_told_and_the_program_goes_on(tmp_path: Path, key: str) -> None:
    async with served(PlainTextResponse("Welcome")) as (host, port):
        process = await started(Desk(tmp_path), f"http://{host}:{port}/mcp", "--token-file", key)
        assert process.stdin is not None
        process.stdin.write(b"no message\n")
        for number in (1, 2):
            answer = await said(process, {"jsonrpc": "2.0", "id": number, "method": "ping"})
            assert answer["id"] == number
            assert "answers 200, and no MCP: 'innkeeper doctor --mcp" in answer["error"]["message"]
        process.stdin.write_eof()
        assert (await ended(process)).code == 0


async def test_the_typescript_clients_use_it(inn: Inn, desk: Desk) -> None:
    start = program(desk, inn.resource)
    task: dict[str, Any] = {"command": start.command, "args": start.args, "env": start.env}
    first, second = (await installed().script("stdio", task))["said"]
    assert (first["tools"], second["tools"], second["protocol"]) == (25, 25, "2026-07-28")
    assert set(first["projects"]) == set(second["projects"]) == {"One", "Two"}


async def test_who_is_not_signed_in_is_told_what_to_do(inn: Inn, tmp_path: Path) -> None:
    process = await started(Desk(tmp_path), inn.resource)
    answer = await said(process, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert f"run 'innkeeper login {inn.url}'" in answer["error"]["message"]
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).code == 130
