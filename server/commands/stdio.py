"""``innkeeper stdio URL``: the endpoint on standard input and output, for clients that only start programs."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from server.connect import signing_in
from server.connect.signing_in import TokenFile
from server.refusal import Refusal


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    from mcp.server.stdio import stdio_server

    from server.connect.bridge import Bridge

    house = signing_in.address(arguments.url)
    url = arguments.url if urlsplit(arguments.url).path.strip("/") else house + signing_in.ENDPOINT
    file = TokenFile(arguments.file) if arguments.file else TokenFile.usual(Path.home())
    # Answers take as long as they take: who gives up is the client.
    lasting = httpx2.Timeout(signing_in.SECONDS, read=None)
    async with signing_in.client() as asking, httpx2.AsyncClient(timeout=lasting) as http:

        async def token(renewed: bool) -> str:
            if arguments.token_file is not None:
                return _written(arguments.token_file)
            tokens = await signing_in.fresh(asking, file, house, force=renewed)
            if tokens is None:
                raise Refusal(f"Nobody is signed in to {house} here any more: run 'innkeeper login {house}'.")
            return str(tokens["access_token"])

        async with stdio_server() as (messages, answers):
            await Bridge(http, url, token, answers.send).carry(messages)
            await answers.aclose()
    return 0


def _written(file: Path) -> str:
    """A key from a file, read again each time, since it may be replaced."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"--token-file {file} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
