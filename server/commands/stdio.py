"""``innkeeper stdio URL``: the endpoint on standard input and output, for clients that only start programs."""

from __future__ import annotations

import asyncio
import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

import httpx2

from server.connect import signing_in
from server.connect.signing_in import TokenFile
from server.refusal import Refusal
from server.terminal import note


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    from server.connect.bridge import Bridge

    house = signing_in.address(arguments.url)
    parts = urlsplit(arguments.url)
    url = urlunsplit(parts._replace(path=parts.path.rstrip("/") or signing_in.ENDPOINT))
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

        try:
            await Bridge(http, url, token, _write).carry(_lines())
        except* BrokenPipeError:
            note("innkeeper: The client is gone.")
    return 0


async def _lines() -> AsyncIterator[bytes]:
    """Standard input. It is read in a thread that nobody waits for: an interrupt would wait for its next line."""
    loop, read = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    def wait() -> None:
        with suppress(RuntimeError), os.fdopen(os.dup(0), "rb") as lines:
            for line in lines:
                loop.call_soon_threadsafe(read.put_nowait, line)
            loop.call_soon_threadsafe(read.put_nowait, b"")

    Thread(target=wait, daemon=True).start()
    while line := await read.get():
        yield line


def _write(line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(1, rest) :]


def _written(file: Path) -> str:
    """A key from a file, read again each time, since it may be replaced."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"--token-file {file} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
