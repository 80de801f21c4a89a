"""``innkeeper login``: sign in from a terminal by the device flow (RFC 8628), and keep the tokens in a file."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path

from server.connect import signing_in
from server.connect.signing_in import TokenFile
from server.terminal import note


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    url = signing_in.address(arguments.url)
    file = TokenFile(arguments.file) if arguments.file else TokenFile.usual(Path.home())
    async with signing_in.client() as http:
        tokens = await signing_in.sign_in(http, url, " ".join(arguments.scope or ()))
    file.put(url, tokens)
    note(f"Signed in to {url}. Its tokens are in {file.path}, which only you can read; they may: {tokens['scope']}.")
    return 0
