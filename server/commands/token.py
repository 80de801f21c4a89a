"""``innkeeper token``: the access token of a sign-in, fresh, for programs that ask for one."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from pathlib import Path

from server.connect import signing_in
from server.connect.signing_in import TokenFile
from server.refusal import Refusal
from server.terminal import put


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    url = signing_in.address(arguments.url)
    file = TokenFile(arguments.file) if arguments.file else TokenFile.usual(Path.home())
    async with signing_in.client() as http:
        tokens = await signing_in.fresh(http, file, url)
    if tokens is None:
        raise Refusal(f"Nobody is signed in to {url} here any more: run 'innkeeper login {url}'.")
    token = tokens["access_token"]
    put(json.dumps({"Authorization": f"Bearer {token}"}) if arguments.headers else token)
    return 0
