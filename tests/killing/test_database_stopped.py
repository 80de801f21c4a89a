"""PostgreSQL goes away or refuses under 50 runs: whoever asks meanwhile is told so, and every run goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from db.credentials import Authenticator
from db.embedded.cluster import EmbeddedPostgres
from migrations import runner
from tests.agents.inn import Stream, body, followed, following, rest, user
from tests.conftest import DatabaseUrls, House, Tenant, eventually, opened
from tests.db.clusters import open_folder
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import ToolCall, Turn
from tests.fakes.sockets import on_socket
from tests.killing import houses as killing
from tests.killing.houses import Houses
from tests.machine import within

pytestmark = pytest.mark.promise("RUN-26")

RUNS: Final = 50
DOWN_SECONDS: Final = 2.0
MOST_SECONDS: Final = 3.0
WORDS: Final = 40
PACE: Final = 8.0
CUT: Final = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename LIKE 'innkeeper%'"
DOCUMENTED: Final = set(re.findall(r"^\| `(\w+)` \|", Path("docs/errors.md").read_text(), re.MULTILINE))


@dataclass
class Postgres:
    """A cluster of its own, which keeps to what it has committed."""

    data: Path
    running: EmbeddedPostgres

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Postgres]:
        with open_folder() as data:
            cluster = cls(data, await EmbeddedPostgres.start(data, progress=lambda _line: None))
            try:
                await runner.upgrade(cluster.running.owner_url)
                yield cluster
            finally:
                await cluster.running.stop()

    @property
    def urls(self) -> DatabaseUrls:
        one = self.running
        return DatabaseUrls(one.owner_url, one.app_url, one.ops_url, one.superuser_url)

    @asynccontextmanager
    async def ended(self, number: signal.Signals) -> AsyncIterator[None]:
        """SIGINT: a fast shutdown, SIGQUIT: an immediate one ("Shutting Down the Server"), SIGKILL: none."""
        os.kill(self.running.pid, number)
        await self.running.stop()
        yield
        self.running = await EmbeddedPostgres.start(self.data, progress=lambda _line: None)

    @asynccontextmanager
    async def refusing(self, change: str, undo: str) -> AsyncIterator[None]:
        """The server is there, the database altered, and everybody has to connect anew."""
        superuser = await asyncpg.connect(self.running.superuser_url)
        await superuser.execute(f"ALTER DATABASE innkeeper {change}")
        await superuser.fetch(CUT)
        yield
        await superuser.execute(f"ALTER DATABASE innkeeper {undo}")
        await superuser.close()


@dataclass
class Asked:
    """What requests got: by status and code, and how long the slowest took. ``well``: since when they succeed."""

    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    slowest: float = 0.0
    well: float | None = None

    def note(self, what: str, status: int, code: str, took: float) -> None:
        self.answers[what, status, code] += 1
        self.slowest = max(self.slowest, took)
        if status >= 400:
            self.well = None
        elif self.well is None:
            self.well = monotonic()


class Asking:
    """Somebody who goes on asking for all sorts of things."""

    def __init__(self, house: killing.House, tenant: Tenant, run_id: str) -> None:
        self.asked = Asked()
        self._house = house
        self._bearer = {"authorization": f"Bearer {tenant.token}"}
        self._run_id = run_id

    async def ask(self) -> None:
        mcp = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        reading = {**mcp, "params": {"name": "list_projects", "arguments": {}}}
        writing = {**mcp, "params": {"name": "create_project", "arguments": {"name": "Meanwhile"}}}
        both = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
        while True:
            await self._one("GET", f"/runs/{self._run_id}")
            await self._one("GET", f"/runs/{self._run_id}/events", headers={"last-event-id": "1000000"})
            await self._one("POST", "/agui", json=body(user('{"tokens": 3}')))
            await self._one("POST", "/mcp", json=reading, headers=both)
            await self._one("POST", "/mcp", json=writing, headers=both)
            await asyncio.sleep(0.02)

    async def _one(self, method: str, path: str, **more: Any) -> None:
        headers = {**self._bearer, **more.pop("headers", {})}
        since = monotonic()
        opened = self._house.client.stream(method, self._house.url + path, headers=headers, **more)
        async with opened as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                await answer.aread()
            took = monotonic() - since
        status, code = self._meaning(answer)
        what = f"{method} {path.replace(self._run_id, '{id}')}"
        if status == 503:
            assert answer.headers.get("retry-after") or "retry_after" in answer.text, answer.text
        if status != 410:  # of a log that has no such place, which is an answer like any other
            self.asked.note(what, status, code, took)

    def _meaning(self, answer: httpx2.Response) -> tuple[int, str]:
        """Errors of tools are results, with the code and no status of HTTP."""
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            return answer.status_code, str(answer.json()["type"]).removeprefix("urn:innkeeper:error:")
        if answer.headers.get("content-type", "").startswith("application/json"):
            value = answer.json()
            result = value.get("result", {})
            error = value.get("error", {}).get("data") or result.get("_meta", {}).get("innkeeper/error")
            if error:
                return 503 if error["retryable"] else 500, str(error["code"])
        return answer.status_code, ""


Away = Callable[[Postgres], AbstractAsyncContextManager[None]]
READ: Final = "default_transaction_read_only"


@pytest.mark.timeout(500)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_while_the_database_is_away_there_are_only_defined_errors_and_then_every_run_ends(
    houses: Houses, how: signal.Signals
) -> None:
    await within(MOST_SECONDS, partial(away, houses, lambda postgres: postgres.ended(how)))


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    "how",
    [
        lambda postgres: postgres.ended(signal.SIGKILL),
        lambda postgres: postgres.refusing("CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
        lambda postgres: postgres.refusing(f"SET {READ} = on", f"RESET {READ}"),
    ],
    ids=["killed", "takes no connections", "takes no writes"],
)
async def test_so_it_is_when_the_database_is_killed_or_serves_nobody(houses: Houses, how: Away) -> None:
    await within(MOST_SECONDS, partial(away, houses, how))


async def away(houses: Houses, how: Away) -> float:
    """What the slowest answer took, or, if that was longer, the way from the start of the database to good answers."""
    slowest = 0.0
    model = ScriptedModel(PACE)
    async with Postgres.opened() as postgres, on_socket(model) as model_url:
        model.base_url = f"{model_url}/v1"
        tenant = await a_tenant(postgres.urls)
        here = await houses.open(postgres.urls, model.base_url)
        there = await houses.open(postgres.urls, model.base_url)
        try:
            names = [f"run {number}" for number in range(RUNS)]
            for number, name in enumerate(names):
                words = [f"{number}.{word} " for word in range(WORDS)]
                call = ToolCall("create_project", {"name": f"of {name}"})
                model.play(name, Turn(*words, call), Turn("Done."))
            readers = [asyncio.create_task(reading(here, tenant, name)) for name in names]
            await model.requested(RUNS)
            connection = await asyncpg.connect(postgres.urls.owner)
            ids = {row["external_id"]: str(row["id"]) for row in await connection.fetch("SELECT * FROM runs")}
            await connection.close()
            elsewhere = [asyncio.create_task(reading_on(there, tenant, ids[name])) for name in names[:5]]
            askers = [Asking(house, tenant, ids[names[0]]) for house in (here, there)]
            asking = [asyncio.create_task(asker.ask()) for asker in askers]
            await asyncio.sleep(0.5)
            async with how(postgres):
                await asyncio.sleep(DOWN_SECONDS)
            back = monotonic()
            async with asyncio.timeout(100):
                streams = dict(zip(names, [await reader for reader in readers], strict=True))
                others = [await reader for reader in elsewhere]
            for task in asking:
                assert not task.done(), task
                task.cancel()
            for asker in askers:
                errors = {(status, code) for _what, status, code in asker.asked.answers if status >= 400}
                assert errors, "nobody noticed that it was away"
                # On a slow machine the runs and those who ask are too many of one user for a moment.
                assert {status for status, _code in errors} | {429} == {429, 503}, asker.asked.answers
                assert {code for _status, code in errors} <= DOCUMENTED
                assert asker.asked.well is not None
                slowest = max(slowest, asker.asked.slowest, asker.asked.well - back)
            for name, stream in streams.items():
                assert stream.last["type"] == "RUN_FINISHED", stream.last
                assert stream.ids == list(range(1, len(stream.ids) + 1))
                assert "RUN_ERROR" not in stream.types
                again = await followed(there, tenant.token, ids[name])
                assert again.events == stream.events
            for name, other in zip(names, others, strict=False):
                assert other.events == streams[name].events
            connection = await asyncpg.connect(postgres.urls.owner)

            async def all_ended() -> bool:
                # Those that were asked for meanwhile, and left, among them.
                left: int = await connection.fetchval("SELECT count(*) FROM runs WHERE ended_at IS NULL")
                return left == 0

            await eventually(all_ended)
            made = await connection.fetch("SELECT name FROM projects WHERE name LIKE 'of run %'")
            states = await connection.fetch("SELECT status, count(*) FROM runs GROUP BY 1")
            await connection.close()
            assert sorted(row["name"] for row in made) == sorted(f"of {name}" for name in names)
            assert {row["status"] for row in states} == {"succeeded"}
        finally:
            await here.close()
            await there.close()
    return slowest


async def a_tenant(urls: DatabaseUrls) -> Tenant:
    owner = await asyncpg.connect(urls.owner)
    try:
        async with opened(urls) as database:
            authenticator = Authenticator(database)
            await authenticator.start()
            return await House(owner, authenticator).tenant()
    finally:
        await owner.close()


async def reading(house: killing.House, tenant: Tenant, name: str) -> Stream:
    bearer = {"authorization": f"Bearer {tenant.token}"}
    asked = body(user(name), run=name, thread=name)
    while True:
        async with house.client.stream("POST", f"{house.url}/agui", json=asked, headers=bearer) as response:
            if response.status_code == 200:
                return await rest(Stream(response.status_code, response.headers), response.aiter_raw())
            # On a slow machine 50 at once are too many of one user for a moment.
            assert response.status_code == 429, await response.aread()


async def reading_on(house: killing.House, tenant: Tenant, run_id: str) -> Stream:
    while True:
        async with following(house, tenant.token, run_id) as (stream, response):
            if response.status_code == 200:
                return await rest(stream, response.aiter_raw())
            assert response.status_code == 503, stream.problem
