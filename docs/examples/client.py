"""Create a project over MCP. MCP_URL and MCP_KEY are what `innkeeper up` printed."""

import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client as connect


async def main(url: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=300) as http, Client(connect(url, http_client=http)) as inn:
        project = await inn.call_tool("create_project", {"name": "From twelve lines"})
        print(project.structured_content)


asyncio.run(main(os.environ["MCP_URL"], os.environ["MCP_KEY"]))
