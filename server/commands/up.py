"""``innkeeper up``: one command from nothing to a server that answers."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import UUID

from server import process
from server.clients import welcome
from server.commands.reading import read_settings
from server.connect.placing import typed
from server.data_directory import DatabaseUrls, DataDirectory, data_directory
from server.databases import open_for_up
from server.first_account import ensure_first_account
from server.listening import bind, url_of
from server.model_choice import choose_model
from server.roots import keyring_of
from server.settings import Settings
from server.terminal import Progress, note, progress, put

# Big imports, in a thread while PostgreSQL starts: the application needs them to be ready.
APPLICATION = ("server.running",)


def run(arguments: Namespace) -> int:
    settings = read_settings(environment="development", dotenv=Path(".env"))
    return process.run(lambda stop: _up(arguments, settings, stop))


async def _up(arguments: Namespace, settings: Settings, stop: process.Stop) -> int:
    say = progress()
    data = data_directory(arguments.data or settings.house.data, os.environ)
    bound = bind(arguments.host, arguments.port)
    url = url_of(bound)
    data.make()
    async with AsyncExitStack() as stack:
        stack.callback(bound.close)
        stack.enter_context(data.lock())
        importing = asyncio.create_task(_import_application())
        urls = await stack.enter_async_context(open_for_up(settings.database, data, say, stop.ask))
        if urls.owner is None:
            raise RuntimeError("up knows the owner")
        api_key, project_id = await ensure_first_account(urls.owner, data)
        await importing
        say("starting the server")
        await _serve(_Start(arguments, settings, data, urls, url, api_key, project_id, say), bound, stop)
        say("stopping")
    say("stopped")
    return 0


class _Start:
    """What one start has found out, on its way to the terminal."""

    def __init__(
        self,
        arguments: Namespace,
        settings: Settings,
        data: DataDirectory,
        urls: DatabaseUrls,
        url: str,
        api_key: str,
        project_id: UUID,
        say: Progress,
    ) -> None:
        self.arguments = arguments
        self.settings = settings
        self.data = data
        self.urls = urls
        self.url = url
        self.api_key = api_key
        self.project_id = project_id
        self.say = say

    def say_link(self, address: str, link: str | None) -> None:
        """Never through the log, which may be kept; with ``--json`` beside it, since stdout has its one line."""
        if link is None:
            told = f"{address} asked to sign in: there is no such account, and INNKEEPER_SIGN_UP lets it make none."
        else:
            told = f"{address} asked to sign in. In the browser that asked, open within 15 minutes:\n{link}"
        (note if self.arguments.json else put)(told)

    def announce(self) -> None:
        if self.arguments.json:
            found = {
                "url": self.url,
                "mcp_url": f"{self.url}/mcp",
                "agui_url": f"{self.url}/agui",
                "api_key": self.api_key,
                "project_id": str(self.project_id),
                "pid": os.getpid(),
            }
            put(json.dumps(found))
            return
        put(
            welcome(
                url=self.url,
                api_key=self.api_key,
                key_file=self.data.api_key,
                literal=sys.stdout.isatty(),
                program=typed(),
                data=self.arguments.data,
            )
        )


async def _serve(start: _Start, bound: socket.socket, stop: process.Stop) -> None:
    from server.running import run_house
    from server.stores import said_of

    house = start.settings.house
    detect = not start.arguments.no_detect
    choice = await choose_model(start.settings.models, detect=detect, data=start.data.root, progress=start.say)

    def announce() -> None:
        start.say(choice.said)
        start.say(said_of(start.settings, start.data.files))
        start.announce()

    with _running_file(start):
        await run_house(
            start.settings,
            start.urls,
            choice,
            keyring=keyring_of(house, start.data),
            public_url=house.public_url or start.url,
            bound=bound,
            stop=stop,
            announce=announce,
            work=True,
            files=start.data.files,
            say_link=start.say_link,
        )


@contextmanager
def _running_file(start: _Start) -> Iterator[None]:
    """Tells ``keys``, ``backup`` and ``doctor`` where the running database is; it counts only under the held lock."""
    start.data.say_running(start.urls, start.settings.house.public_url or start.url)
    try:
        yield
    finally:
        start.data.running.unlink(missing_ok=True)


async def _import_application() -> None:
    for module in APPLICATION:
        await asyncio.to_thread(importlib.import_module, module)
