"""A computer of somebody's: a home, and ``innkeeper`` as its owner starts it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.measured import MEASURED
from tests.server.command import ROOT, Ended, ended
from tests.server.oauth.people import Person, hidden


@dataclass(frozen=True)
class Desk:
    """A home, and the command as its owner starts it."""

    home: Path
    path: str = "/usr/bin:/bin"

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"HOME": str(self.home), "PATH": self.path, "PYTHONPATH": ROOT, "NO_PROXY": "*"}
        return {**MEASURED, **own, **(more or {})}

    async def start(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "server.cli", *arguments, cwd=self.home, env=self.environ(),
            stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str) -> Ended:
        return await ended(await self.start(*arguments))

    async def let_in(self, person: Person, *arguments: str) -> Ended:
        """Run the command; the person opens the address that it shows, and allows it."""
        process = await self.start(*arguments)
        await decide(person, (await shown(process)).rpartition("=")[2])
        return await ended(process)

    def read(self, name: str) -> bytes:
        return (self.home / name).read_bytes()

    def everything(self) -> dict[str, bytes]:
        return {str(file.relative_to(self.home)): file.read_bytes() for file in self.home.rglob("*") if file.is_file()}

    @property
    def tokens(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads(self.read(".config/innkeeper/tokens.json"))
        return found

    def change_tokens(self, **fields: object) -> None:
        told = {url: {**tokens, **fields} for url, tokens in self.tokens.items()}
        (self.home / ".config/innkeeper/tokens.json").write_text(json.dumps(told))


async def shown(process: asyncio.subprocess.Process) -> str:
    """The address that the command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        address = (await process.stdout.readline()).decode().strip()
    assert address, (await ended(process)).err
    return address


async def decide(person: Person, user_code: str, decision: str = "allow") -> None:
    """What the person says to a device that shows ``user_code``."""
    page = await person.browser.get("/device", params={"user_code": user_code})
    asked = await person.browser.post("/device", data={**hidden(page), "user_code": user_code})
    told = await person.press(asked, decision)
    assert ("<h1>Connected</h1>" in told.text) == (decision == "allow"), told.text
