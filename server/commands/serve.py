"""``innkeeper serve``: one server process on a database that somebody else migrates. Reads no ``.env``."""

from __future__ import annotations

from argparse import Namespace

from server import process
from server.commands.reading import read_settings
from server.databases import require_servable
from server.listening import bind, listens_on, url_of
from server.model_choice import choose_model
from server.roots import keyring_of
from server.servable import REQUIRED, urls_of
from server.settings import Settings
from server.terminal import progress


def run(arguments: Namespace) -> int:
    settings = read_settings(required=REQUIRED)
    return process.run(lambda stop: _serve(arguments, settings, stop))


async def _serve(arguments: Namespace, settings: Settings, stop: process.Stop) -> int:
    say = progress()
    house = settings.house
    bound = bind(arguments.host, arguments.port)
    with bound:
        urls = urls_of(settings.database)
        await require_servable(urls, say)
        from server.running import run_house
        from server.stores import said_of

        choice = await choose_model(settings.models, detect=False, data=None, progress=say)
        public_url = house.public_url or url_of(bound)

        def announce() -> None:
            say(choice.said)
            say(said_of(settings, None))
            say(f"ready: {public_url}/mcp, listening on {listens_on(bound)}")

        await run_house(
            settings,
            urls,
            choice,
            keyring=keyring_of(house, None),
            public_url=public_url,
            bound=bound,
            stop=stop,
            announce=announce,
        )
    say("stopped")
    return 0
