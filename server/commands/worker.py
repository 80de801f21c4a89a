"""``innkeeper worker``: works off jobs. This version has no kind of job, so it checks its database and waits."""

from __future__ import annotations

from argparse import Namespace

from server import process
from server.commands.reading import read_settings
from server.databases import require_servable
from server.servable import REQUIRED, urls_of
from server.settings import Settings
from server.terminal import progress


def run(_arguments: Namespace) -> int:
    settings = read_settings(required=REQUIRED)
    return process.run(lambda stop: _work(settings, stop))


async def _work(settings: Settings, stop: process.Stop) -> int:
    say = progress()
    facts = await require_servable(urls_of(settings.database), say)
    with stop.patiently():
        say(f"ready: PostgreSQL {facts.version}, schema {facts.revision}; no kind of job exists yet, waiting")
        await stop.asked.wait()
    say("stopped")
    return 0
