"""VS Code itself: its workbench and its own MCP client, as code-server carries them, driven in Chromium."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pytest_asyncio

from tests import node
from tests.conftest import eventually
from tests.server.connect.desk import Desk, decide
from tests.server.oauth.people import Inn, Person
from tests.server.site.chromium import chromium

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.promise("IDN-40"),
    pytest.mark.long,
    pytest.mark.timeout(400),
]
PEERS = Path(__file__).parent / "peers"
USER = ".config/Code"
SOON, PATIENCE = 5_000, 90_000
"""Milliseconds."""
ASKING = ".monaco-dialog-box, .notifications-toasts"


@dataclass(frozen=True)
class Installed:
    """VS Code on a desk, with an extension that calls a tool as soon as there is one."""

    desk: Desk
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def called(self) -> Path:
        return self.desk.home / "called.json"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        program = node.install(PEERS) / "code-server" / "out" / "node" / "entry.js"
        extensions = self.desk.home / "extensions"
        shutil.copytree(PEERS / "caller", extensions / "innkeeper.caller-1.0.0", dirs_exist_ok=True)
        # Else it leads addresses of this computer through itself, as if it ran on another.
        environ = self.desk.environ({"CALLED": str(self.called), "VSCODE_PROXY_URI": ""})
        process = await asyncio.create_subprocess_exec(
            node.node(), program, "--auth", "none", "--bind-addr", f"127.0.0.1:{self.port}",
            "--user-data-dir", self.desk.home / USER, "--extensions-dir", extensions,
            "--disable-telemetry", "--disable-update-check", "--disable-workspace-trust",
            cwd=self.desk.home, env={**environ, "PATH": node.environment()["PATH"]},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await eventually(self._answers, 60)
            yield
        finally:
            process.terminate()
            await process.wait()

    async def _answers(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            try:
                return (await http.get(self.url)).status_code < 500
            except httpx2.HTTPError:
                return False

    async def told(self) -> dict[str, Any]:
        """What came when the extension called the tool."""
        await eventually(lambda: asyncio.to_thread(self.called.exists), 60)
        found: dict[str, Any] = json.loads(self.called.read_text())
        self.called.unlink()
        return found


class Workbench:
    """Its window, and what a person clicks in it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def open(self, installed: Installed) -> None:
        await self.page.goto(f"{installed.url}/?folder={installed.desk.home / 'work'}")
        await self.page.wait_for_selector(".monaco-workbench")

    async def choose(self, command: str, *choices: str) -> None:
        """A command of the palette, then of each list that opens the entry with these words. Again, until all of it is
        there: a window that has just opened knows little yet."""
        from playwright.async_api import TimeoutError as Late

        palette = self.page.locator(".quick-input-widget input[type=text]")

        async def chosen() -> bool:
            await self.page.keyboard.press("F1")
            try:
                await palette.fill(f">{command}", timeout=SOON)
                for words in (command, *choices):
                    row = self.page.locator(".quick-input-list .monaco-list-row", has_text=words)
                    await row.first.click(timeout=SOON)
            except Late:
                await self.page.keyboard.press("Escape")
                return False
            return True

        await eventually(chosen, 90)

    async def press(self, button: str) -> None:
        """A button of a dialog or a notification."""
        await self.page.locator(f":is({ASKING}) .monaco-button", has_text=re.compile(f"^{button}")).first.click()


@pytest_asyncio.fixture(loop_scope="module")
async def installed(tmp_path: Path) -> Installed:
    (tmp_path / "work").mkdir()
    (tmp_path / USER / "User").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Installed(Desk(tmp_path), free.getsockname()[1])


@pytest_asyncio.fixture(loop_scope="module")
async def workbench() -> AsyncIterator[Workbench]:
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        yield Workbench(page)


async def test_vs_code_finds_the_server_signs_in_by_device_flow_calls_and_stays_signed_in(
    inn: Inn, person: Person, installed: Installed, workbench: Workbench
) -> None:
    done = await installed.desk.let_in(person, "connect", "--url", inn.url, "--yes", "--transport", "http")
    assert "VS Code: added" in done.err, done.err
    async with installed.running():
        await workbench.open(installed)
        await workbench.choose("MCP: List Servers", "innkeeper", "Start Server")
        await workbench.press("Allow")
        # The way that it tries first ends at a page of vscode.dev, out of a browser; the next needs no page.
        await workbench.press("Cancel")
        await workbench.press("Yes")
        asking = await workbench.page.locator(".monaco-dialog-box").inner_text()
        await workbench.press("Copy")
        code = re.search(r"Your code: (\S+)", asking)
        assert code, asking
        await decide(person, code[1])
        first = await installed.told()
        assert len(first["tools"]) == 25
        assert {project["name"] for project in json.loads(first["said"])["projects"]} == {"One", "Two"}

    async with installed.running():
        await workbench.open(installed)
        await workbench.choose("MCP: List Servers", "innkeeper", "Start Server")
        assert await installed.told() == first, "without being asked anything"

    assert (await installed.desk.run("connect", "--remove")).code == 0
    assert not (installed.desk.home / USER / "User" / "mcp.json").exists()


async def test_vs_code_starts_our_program_and_is_signed_in_by_the_device_flow_of_connect(
    inn: Inn, person: Person, installed: Installed, workbench: Workbench
) -> None:
    done = await installed.desk.let_in(person, "connect", "vscode", "--url", inn.url, "--read-only")
    assert "VS Code: added" in done.err, done.err
    async with installed.running():
        await workbench.open(installed)
        await workbench.choose("MCP: List Servers", "innkeeper", "Start Server")
        told = await installed.told()
    assert {project["name"] for project in json.loads(told["said"])["projects"]} == {"One", "Two"}
    assert not [name for name in told["tools"] if name.endswith("create_project")]
