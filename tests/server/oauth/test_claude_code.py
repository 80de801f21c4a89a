"""Claude Code, as its own program: signs in on a terminal without a browser, calls a tool, and steps up once."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from server.app import create_app
from tests.claude_code import bundled
from tests.conftest import eventually
from tests.fakes.anthropic_server import scripted_messages
from tests.server.edge_services import served
from tests.server.oauth.browsing import addresses, allowed
from tests.server.oauth.people import Inn, Person, call

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("IDN-41"), pytest.mark.long]


@dataclass(frozen=True)
class ClaudeCode:
    """The program that claude-agent-sdk brings, with a home of its own."""

    program: Path
    home: Path
    model: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "ENABLE_TOOL_SEARCH": "false",
            "ANTHROPIC_BASE_URL": self.model,
            "ANTHROPIC_API_KEY": "sk-ant-of-tests",
        }

    async def run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self.program, *arguments, env=self.environment, cwd=self.home,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(90):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    async def login(self, person: Person, issuer: str) -> list[str]:
        """Sign in on a terminal: the address goes to the person, where they were sent is pasted. The scopes asked."""
        terminal, its_side = pty.openpty()
        os.set_blocking(terminal, True)
        process = await asyncio.create_subprocess_exec(
            self.program, "mcp", "login", "--no-browser", "inn",
            env=self.environment, cwd=self.home, stdin=its_side, stdout=its_side, stderr=its_side,
        )  # fmt: skip
        os.close(its_side)
        asked: list[str] = []
        with (self.home / "login.log").open("ab") as log:
            async with asyncio.timeout(60):
                async for url in addresses(terminal, issuer, log):
                    asked += parse_qs(urlsplit(url).query)["scope"][0].split()
                    os.write(terminal, (await allowed(person, url)).encode() + b"\r")
                assert await process.wait() == 0
        os.close(terminal)
        return asked


@asynccontextmanager
async def claude_code(home: Path, model: str) -> AsyncIterator[ClaudeCode]:
    yield ClaudeCode(bundled() / "claude", home, model)


async def nothing() -> None:
    """Nothing happens before the call."""


@pytest.mark.timeout(300)
async def test_claude_code_signs_in_is_refused_a_write_steps_up_and_writes(inn: Inn, tmp_path: Path) -> None:
    # The document at the client_id that it would rather use is on the internet, where no test goes.
    async with served(create_app(replace(inn.services, client_documents=False))) as (host, port):
        here = Inn(f"http://{host}:{port}", inn.owner, inn.services)
        async with here.person() as person, scripted_messages() as model, claude_code(tmp_path, model.base_url) as cli:
            await cli.run("mcp", "add", "--transport", "http", "inn", here.resource)
            assert "projects:write" in await cli.login(person, here.url)
            assert "Connected" in await cli.run("mcp", "list")

            async def narrow() -> None:
                """While it runs, what it was given shrinks, so that it meets a refusal of a tool that it has listed."""
                await inn.owner.execute("UPDATE oauth_access_tokens SET scopes = '{projects:read}'")
                await inn.owner.execute("UPDATE credentials SET scopes = '{projects:read}' WHERE kind = 'oauth'")
                token = str((tmp_path / "claude" / ".credentials.json").read_text()).split('"accessToken":"')[1]

                async def refused() -> bool:
                    return (await call(here, token.split('"')[0], "create_project", name="x")).status_code == 403

                await eventually(refused)

            asking = ("-p", "go", "--allowedTools", "mcp__inn__list_projects", "mcp__inn__create_project")
            write = ("mcp__inn__create_project", {"name": "From Claude Code"})
            model.calls = [("mcp__inn__list_projects", {}, nothing), (*write, narrow)]
            await cli.run(*asking)
            assert '"One' in model.results[0].replace("\\", "")

            assert {"projects:read", "projects:write"} <= set(await cli.login(person, here.url))
            model.results.clear()
            model.calls = [(*write, nothing)]
            await cli.run(*asking)
            assert "From Claude Code" in model.results[0]
    assert await inn.owner.fetchval("SELECT count(*) FROM projects WHERE name = 'From Claude Code'") == 1
