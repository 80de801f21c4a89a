"""``innkeeper worker``: works off jobs, beside any number of ``innkeeper serve``, until a signal. Reads no ``.env``."""

from __future__ import annotations

from argparse import Namespace

from server import process
from server.cli import DEFAULT_HOST, DEFAULT_PORT
from server.commands.reading import read_settings
from server.databases import require_servable
from server.model_choice import choose_model
from server.roots import keyring_of
from server.servable import REQUIRED, urls_of
from server.settings import Settings
from server.terminal import progress


def run(_arguments: Namespace) -> int:
    settings = read_settings(required=REQUIRED)
    return process.run(lambda stop: _work(settings, stop))


async def _work(settings: Settings, stop: process.Stop) -> int:
    say = progress()
    house = settings.house
    urls = urls_of(settings.database)
    facts = await require_servable(urls, say)
    from server.app import create_app
    from server.jobs.worker import Worker, WorkerRules
    from server.services import build

    choice = await choose_model(settings.models, detect=False, data=None, progress=say)
    # What jobs link to is where the servers are reached, not this process.
    public_url = house.public_url or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
    keyring = keyring_of(house, None)
    async with build(settings, urls, choice, keyring=keyring, public_url=public_url) as services:
        services.engine.use(create_app(services).state.mcp_app, services.store.fetch)
        worker = Worker(services, WorkerRules(settings.jobs.places, settings.jobs.lease_seconds))
        try:
            with stop.patiently():
                await worker.start()
                places = settings.jobs.places
                say(f"ready: PostgreSQL {facts.version}, schema {facts.revision}; up to {places} jobs at a time")
                await stop.asked.wait()
                say("finishing what is begun")
                await worker.drain(house.drain_seconds)
        finally:
            await worker.drain(0)
    say("stopped")
    return 0
