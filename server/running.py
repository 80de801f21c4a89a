"""The house while it runs: services, application, server, and what happens after ready and after a stop signal."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from server import process
from server.app import create_app
from server.data_directory import DatabaseUrls
from server.http.proxies import TrustedProxies
from server.keyring import Keyring
from server.mcp import streaming
from server.model_choice import ModelChoice
from server.services import Services, build
from server.settings import Settings

if TYPE_CHECKING:
    from server.jobs.worker import Worker
    from server.site.pages import SayLink

WARM_SWITCH_SECONDS = 0.0005
log = logging.getLogger("innkeeper.start")


async def run_house(
    settings: Settings,
    urls: DatabaseUrls,
    choice: ModelChoice,
    *,
    keyring: Keyring,
    public_url: str,
    bound: socket.socket,
    stop: process.Stop,
    announce: Callable[[], None],
    work: bool = False,
    files: Path | None = None,
    say_link: SayLink | None = None,
) -> None:
    """Serve until a signal, and with ``work`` also work off jobs; ``announce`` is called once everything answers.
    ``files`` and ``say_link``: as for ``build``."""
    drain = settings.house.drain_seconds
    async with build(
        settings, urls, choice, keyring=keyring, public_url=public_url, files=files, say_link=say_link
    ) as services:
        app = create_app(services)
        trusted = settings.sign_in.trusted_proxies
        services.engine.use(app.state.mcp_app, services.store.fetch)
        warming: list[asyncio.Task[None]] = []
        workers: list[Worker] = []

        async def warm() -> None:
            await _warm(services, choice)
            if work:
                workers.append(await _start_worker(services, settings))

        async def ready() -> None:
            announce()
            warming.append(asyncio.create_task(warm(), name="warm"))

        async def stopping() -> None:
            jobs = [worker.drain(drain) for worker in workers]
            await asyncio.gather(services.engine.shutdown(drain), streaming.finish(drain), *jobs)

        try:
            await process.serve(
                TrustedProxies(app, trusted) if trusted else app,
                bound,
                stop,
                drain_seconds=drain,
                on_ready=ready,
                on_stop=stopping,
            )
        finally:
            for task in warming:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            for worker in workers:
                await worker.drain(0)


async def _start_worker(services: Services, settings: Settings) -> Worker:
    """Imported here and in a thread: nothing that serves needs it."""
    await asyncio.to_thread(importlib.import_module, "server.jobs.worker")
    from server.jobs.worker import Worker, WorkerRules

    worker = Worker(services, WorkerRules(settings.jobs.places, settings.jobs.lease_seconds))
    await worker.start()
    return worker


async def _warm(services: Services, choice: ModelChoice) -> None:
    """Import what only runs need, in a thread. It holds the interpreter in short turns, so that no stream stalls.

    The local model starts after that: it would take the processor from the first run of the scripted agent.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(WARM_SWITCH_SECONDS)
    # A collection over the half million objects of an import would hold every stream for a tenth of a second.
    gc.disable()
    try:
        await services.engine.warm()
    except Exception:
        log.exception("what runs need could not be imported; the first run will try again")
    finally:
        sys.setswitchinterval(before)
        gc.freeze()
        gc.enable()
    if choice.local is not None and choice.default is not None and choice.default.model == "local":
        choice.local.start_soon()
