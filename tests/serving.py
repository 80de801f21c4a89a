"""The whole product on a real socket, in the test's own event loop and on the test's own database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agents.model_spec import ModelSpec
from server.data_directory import DatabaseUrls as Urls
from server.integrations.local_model import LocalModel
from server.keyring import Keyring
from server.listening import bind, url_of
from server.model_choice import ModelChoice
from server.process import Stop
from server.running import run_house
from server.settings.loading import load
from tests.conftest import DatabaseUrls

START_SECONDS = 60
ROOT_SECRET = "a root secret that only tests have, 0123456789"
# A run that a test leaves behind is ended at once.
SETTINGS = {"INNKEEPER_DRAIN_SECONDS": "0"}


@dataclass(frozen=True)
class Served:
    """Where it listens."""

    url: str

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"

    @property
    def agui(self) -> str:
        return f"{self.url}/agui"


def scripted(base_url: str) -> ModelChoice:
    """The model at ``base_url`` for every run whose project names none."""
    default = ModelSpec("openai-chat:scripted", base_url=base_url, api_key="sk-scripted")
    return ModelChoice(default, {}, {}, None, "scripted")


def local(model: LocalModel) -> ModelChoice:
    """The real local model, as ``innkeeper up`` chooses it on a machine with nothing else."""
    return ModelChoice(ModelSpec("local"), {}, {}, model, "local")


@asynccontextmanager
async def house_on_socket(
    urls: DatabaseUrls,
    choice: ModelChoice,
    files: Path | None = None,
    work: bool = False,
    settings: Mapping[str, str] = {},
) -> AsyncIterator[Served]:
    """What ``innkeeper serve`` runs, on a free port of 127.0.0.1, between its start and its stop signal. ``files``: the
    directory of files, ``work``: whether it works off jobs, ``settings``: further variables."""
    ready = asyncio.Event()
    stopping: list[Stop] = []
    bound = bind("127.0.0.1", 0)
    url = url_of(bound)
    interval = sys.getswitchinterval()

    async def serve() -> int:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("runs inside a task")
        stop = Stop(task)
        stopping.append(stop)
        await run_house(
            load({**SETTINGS, **settings}, environment="development"),
            Urls(urls.app, urls.ops),
            choice,
            keyring=Keyring(ROOT_SECRET.encode()),
            public_url=url,
            bound=bound,
            stop=stop,
            announce=ready.set,
            work=work,
            files=files,
        )
        return 0

    with bound:
        serving = asyncio.create_task(serve(), name="served")
        starting = asyncio.create_task(ready.wait())
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            yield Served(url)
        finally:
            starting.cancel()
            for stop in stopping:
                stop.asked.set()
            await serving
            sys.setswitchinterval(interval)
