from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from server.model_choice import ModelChoice
from tests.conftest import DatabaseUrls, House
from tests.serving import house_on_socket

CLIENT = Path(__file__).parents[2] / "docs" / "examples" / "client.py"


@pytest.mark.promise("HOME-62")
async def test_the_client_of_the_readme_has_twelve_lines_and_creates_a_project(
    urls: DatabaseUrls, house: House
) -> None:
    assert len([line for line in CLIENT.read_text().splitlines() if line.strip()]) == 12
    tenant = await house.tenant()
    async with house_on_socket(urls, ModelChoice(None, {}, {}, None, "none")) as served:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            CLIENT,
            env={"MCP_URL": served.mcp, "MCP_KEY": tenant.token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"'name': 'From twelve lines'" in out
