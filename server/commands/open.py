"""``innkeeper open``: a link that opens the pages in a browser as an account, once. For who runs the house."""

from __future__ import annotations

import asyncio
import json
import os
from argparse import Namespace
from urllib.parse import urlencode, urlsplit

from db import sessions
from server.commands.keys import user_named
from server.commands.reading import read_settings
from server.data_directory import data_directory
from server.owner import owned_database
from server.refusal import Refusal
from server.roles import connect
from server.settings import Settings
from server.site.rendering import HOME
from server.terminal import note, progress, put


def run(arguments: Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: Namespace) -> int:
    settings = read_settings(environment="development")
    async with owned_database(settings, arguments.data, progress()) as urls:
        address = _address(settings, arguments)
        async with connect(urls.owner or urls.app, "DATABASE_OWNER_URL") as connection:
            token = await sessions.create_link(connection, await user_named(connection, arguments.user))
    page = f"/approvals/{arguments.approval}" if arguments.approval else HOME
    url = f"{address}{page}?{urlencode({'link': token})}"
    if arguments.json:
        put(json.dumps({"url": url, "minutes": sessions.LINK_MINUTES}))
    else:
        note(f"Open this within {sessions.LINK_MINUTES} minutes. It works once, in one browser:")
        put(url)
    return 0


def _address(settings: Settings, arguments: Namespace) -> str:
    data = data_directory(arguments.data or settings.house.data, os.environ)
    found = arguments.url or settings.house.public_url or data.running_address()
    if found is None:
        raise Refusal("No server is known: start 'innkeeper up', or name its address with --url.")
    parts = urlsplit(str(found))
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refusal(f"--url {found} is not an address: give http(s)://HOST[:PORT].")
    return f"{parts.scheme}://{parts.netloc}"
