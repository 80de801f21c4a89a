"""A long write that goes on is ended by its key: from any connection and process, by its own credential alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel

from db.database import Database
from db.errors import AppError
from db.scopes import Scope
from server.data_directory import DatabaseUrls as Urls
from server.keyring import Keyring
from server.services import build
from server.settings.loading import load
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually, opened
from tests.server.edge_services import EdgeServices, KnownTokens, client_of, edge_app
from tests.server.long_work import LongWork
from tests.serving import scripted
from tools.catalog import Catalog
from tools.contract import Caller, ToolSpec, tool
from tools.dispatch import Dispatch
from tools.ports import NoRuns, Services

pytestmark = pytest.mark.promise("MCP-08")

KEY = "weekly import/№ 7"


class Written(BaseModel):
    written: str


@dataclass
class Workshop(LongWork):
    """The long writes of a test."""

    def tools(self) -> tuple[ToolSpec, ...]:
        async def effect(call: Caller) -> None:
            async with call.transaction() as connection:
                await connection.execute(
                    "INSERT INTO projects (id, name, created_by) VALUES (gen_random_uuid(), 'long', $1)",
                    call.principal.user_id,
                )

        @tool(
            Scope.projects_write, read_only=False, destructive=False, idempotent=False, open_world=False,
            takes_long=True,
        )  # fmt: skip
        async def pause_and_write(call: Caller) -> Written:
            """Wait before the effect."""
            await call.progress(1)
            await self.pause()
            await effect(call)
            return Written(written="late")

        @tool(
            Scope.projects_write, read_only=False, destructive=False, idempotent=False, open_world=False,
            takes_long=True,
        )  # fmt: skip
        async def write_and_pause(call: Caller) -> Written:
            """Wait after the effect."""
            await effect(call)
            await call.progress(1)
            await self.pause()
            return Written(written="early")

        return pause_and_write, write_and_pause


@dataclass
class Process:
    """One process of several: its own database connections, its own dispatch, its own application."""

    services: EdgeServices
    http: httpx2.AsyncClient

    @property
    def at_work(self) -> int:
        return len(self.services.dispatch.long_writes)

    async def stop(self, key: str = KEY, token: str = "key") -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.delete(f"/mcp/calls/{quote(key, safe='')}", headers=headers)

    def post(self, name: str, key: str = KEY) -> contextlib.AbstractAsyncContextManager[httpx2.Response]:
        return self.http.stream("POST", "/mcp", **request(name, key))

    async def call(self, name: str, key: str = KEY) -> dict[str, Any]:
        async with self.post(name, key) as response:
            return await result(response)


def request(name: str, key: str) -> dict[str, Any]:
    meta = {"progressToken": "t", "innkeeper/idempotency_key": key}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "_meta": meta}}
    return {"json": message, "headers": {"mcp-protocol-version": "2025-11-25"}}


async def result(response: httpx2.Response) -> dict[str, Any]:
    """The result of a call, from a body or from the last event of a stream."""
    await response.aread()
    last = response.text.strip().rpartition("data: ")[2]
    return dict(httpx2.Response(200, text=last).json()["result"])


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@contextlib.asynccontextmanager
async def process(database: Database, workshop: Workshop, tokens: KnownTokens) -> AsyncIterator[Process]:
    catalog = Catalog(workshop.tools())
    services = EdgeServices(catalog, Dispatch(Services(database, NoRuns()), catalog), tokens)
    await services.dispatch.long_writes.listen()
    async with client_of(edge_app(services), "key") as http:
        yield Process(services, http)


@pytest_asyncio.fixture
async def tokens(tenant: Tenant, stranger: Tenant, house: House) -> KnownTokens:
    other_key = await house.principal(await house.key(tenant.user_id))
    return KnownTokens({"key": tenant.principal, "other key": other_key, "stranger": stranger.principal})


@pytest_asyncio.fixture
async def here(database: Database, workshop: Workshop, tokens: KnownTokens) -> AsyncIterator[Process]:
    """Where the writes are at work."""
    async with process(database, workshop, tokens) as running:
        yield running


@pytest_asyncio.fixture
async def elsewhere(urls: DatabaseUrls, workshop: Workshop, tokens: KnownTokens) -> AsyncIterator[Process]:
    """Another process over the same database."""
    async with opened(urls) as database, process(database, workshop, tokens) as running:
        yield running


async def written(owner: Owner) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'long'"))


async def nothing_at_work(*processes: Process) -> None:
    async def idle() -> bool:
        return not any(process.at_work for process in processes)

    await eventually(idle)


@pytest.mark.parametrize("name", ["pause_and_write", "write_and_pause"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_write_ended_by_its_key_leaves_nothing_and_its_key_is_free_again(
    here: Process, elsewhere: Process, workshop: Workshop, owner: Owner, name: str, where: str
) -> None:
    asked = {"here": here, "elsewhere": elsewhere}[where]
    calling = asyncio.create_task(here.call(name))
    await workshop.begun.wait()
    answer = await asked.stop()
    assert (answer.status_code, answer.content) == (202, b"")

    ended = await calling
    assert ended["isError"] is True
    error = ended["_meta"]["innkeeper/error"]
    assert (error["code"], error["retryable"]) == ("cancelled", False)
    assert "same key" in error["hint"]
    assert await written(owner) == 0
    assert await owner.fetchval("SELECT count(*) FROM idempotency") == 0

    workshop.go_on.set()
    again = await elsewhere.call(name)
    assert "structuredContent" in again
    assert workshop.starts == 2
    assert await written(owner) == 1
    await nothing_at_work(here, elsewhere)


async def test_a_write_whose_reader_has_left_is_ended_by_its_key(
    here: Process, elsewhere: Process, workshop: Workshop, owner: Owner
) -> None:
    async with here.post("write_and_pause") as response:
        await anext(response.aiter_lines())
    assert (await elsewhere.stop()).status_code == 202
    async with asyncio.timeout(60):
        await workshop.cancelled.wait()
    await nothing_at_work(here)
    assert await written(owner) == 0


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_write_that_still_waits_to_begin_is_ended_too(
    here: Process, elsewhere: Process, workshop: Workshop, owner: Owner, urls: DatabaseUrls, where: str
) -> None:
    asked = {"here": here, "elsewhere": elsewhere}[where]
    async with owner.transaction():
        await owner.execute("LOCK TABLE idempotency IN ACCESS EXCLUSIVE MODE")
        calling = asyncio.create_task(here.call("pause_and_write"))
        await waits_for_a_lock(urls)
        assert (await asked.stop()).status_code == 202
        assert (await calling)["_meta"]["innkeeper/error"]["code"] == "cancelled"
    assert workshop.starts == 0
    await nothing_at_work(here)


async def test_a_repeat_that_waits_for_the_work_ends_with_it(
    here: Process, elsewhere: Process, workshop: Workshop, urls: DatabaseUrls, owner: Owner
) -> None:
    first = asyncio.create_task(here.call("write_and_pause"))
    await workshop.begun.wait()
    repeat = asyncio.create_task(elsewhere.call("write_and_pause"))
    await waits_for_a_lock(urls)
    assert (await elsewhere.stop()).status_code == 202
    for ended in await asyncio.gather(first, repeat):
        assert ended["_meta"]["innkeeper/error"]["code"] == "cancelled"
    assert await written(owner) == 0


async def test_a_write_that_has_ended_keeps_its_answer(
    here: Process, elsewhere: Process, workshop: Workshop, owner: Owner
) -> None:
    workshop.go_on.set()
    first = await here.call("write_and_pause")
    assert (await here.stop()).status_code == 404
    again = await elsewhere.call("write_and_pause")
    assert again["structuredContent"] == first["structuredContent"] == {"written": "early"}
    assert workshop.starts == 1
    assert await written(owner) == 1


async def test_a_write_inside_its_commit_is_not_stopped_and_says_what_it_did(
    here: Process, elsewhere: Process, workshop: Workshop, owner: Owner, urls: DatabaseUrls
) -> None:
    await owner.execute(
        "CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(2); RETURN NEW; END $$;"
        "CREATE CONSTRAINT TRIGGER in_commit AFTER UPDATE ON idempotency DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait_for_test()"
    )
    workshop.go_on.set()
    async with owner.transaction():
        await owner.execute("SELECT pg_advisory_xact_lock(2)")
        calling = asyncio.create_task(here.call("pause_and_write"))
        await waits_for_a_lock(urls)
        assert (await here.stop()).status_code == 202
        assert (await elsewhere.stop()).status_code == 202
    assert (await calling)["structuredContent"] == {"written": "late"}
    assert await written(owner) == 1


async def test_nobody_else_can_end_a_write_or_learn_that_there_is_one(
    here: Process, elsewhere: Process, workshop: Workshop
) -> None:
    calling = asyncio.create_task(here.call("write_and_pause"))
    await workshop.begun.wait()
    refused = [await asked.stop(token=token) for asked in (here, elsewhere) for token in ("stranger", "other key")]
    unknown = [await asked.stop("never sent") for asked in (here, elsewhere)]
    problems = [answer.json() for answer in (*refused, *unknown)]
    for problem in problems:
        problem.pop("request_id")
    assert {answer.status_code for answer in (*refused, *unknown)} == {404}
    assert all(problem == problems[0] for problem in problems)
    assert problems[0]["type"] == "urn:innkeeper:error:call_not_found"

    workshop.go_on.set()
    assert (await calling)["structuredContent"] == {"written": "early"}
    assert not workshop.cancelled.is_set()
    ended = (await here.stop()).json()
    ended.pop("request_id")
    assert ended == problems[0]


async def test_without_a_good_key_of_the_house_there_is_a_challenge(here: Process) -> None:
    answer = await here.stop(token="wrong")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_line_in_the_documentation_ends_a_write(
    here: Process, elsewhere: Process, workshop: Workshop
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/connect-your-client.md").read_text(encoding="utf-8")
    line = re.search(r"^curl -X DELETE .*$", page, re.MULTILINE)
    assert line
    address = str(elsewhere.http.base_url).rstrip("/")
    command = line[0].replace("http://127.0.0.1:8260", address).replace("IDEMPOTENCY-KEY", quote(KEY, safe=""))
    calling = asyncio.create_task(here.call("write_and_pause"))
    await workshop.begun.wait()
    environment = {**os.environ, "INNKEEPER_KEY": "key"}
    curl = await asyncio.create_subprocess_exec("bash", "-c", f"{command} --silent --fail", env=environment)
    assert await curl.wait() == 0
    assert (await calling)["_meta"]["innkeeper/error"]["code"] == "cancelled"


async def test_a_process_as_it_serves_hears_what_another_is_asked(
    elsewhere: Process, urls: DatabaseUrls, tenant: Tenant
) -> None:
    settings, model = load({}, environment="development"), scripted("http://127.0.0.1:9")
    keyring = Keyring(b"a root secret that only tests have")
    built = build(settings, Urls(urls.app, urls.ops), model, keyring=keyring, public_url="http://localhost")
    async with built as services:
        await services.database.listener.wait()
        held = asyncio.Event()

        async def work() -> None:
            with services.dispatch.long_writes.begin(tenant.principal, KEY) as write:
                await write.date(services.database)
                async with services.database.transaction(tenant.principal) as connection:
                    await write.hold(connection)
                    held.set()
                    await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await held.wait()
        assert (await elsewhere.stop()).status_code == 202
        with pytest.raises(AppError) as caught:
            await working
    assert caught.value.code == "cancelled"


@pytest.mark.parametrize("begun", [True, False])
async def test_an_old_request_to_end_does_not_reach_the_next_use_of_a_key(
    here: Process, workshop: Workshop, owner: Owner, tenant: Tenant, begun: bool
) -> None:
    """A notification can arrive after its caller has been answered and has sent the call again."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await owner.add_listener("innkeeper_long_writes", lambda _connection, _pid, _channel, said: heard.put_nowait(said))
    calling = asyncio.create_task(here.call("write_and_pause"))
    await workshop.begun.wait()
    await here.stop()
    await calling
    late = await heard.get()
    workshop.begun.clear()

    calling = asyncio.create_task(here.call("write_and_pause"))
    if begun:
        await workshop.begun.wait()
    else:
        await eventually(lambda: at_work(here))
    await owner.execute("SELECT pg_notify('innkeeper_long_writes', $1)", late)
    await (await heard_up_to_now(here))
    workshop.go_on.set()
    assert (await calling)["structuredContent"] == {"written": "early"}
    assert KEY not in late
    assert str(tenant.principal.credential_id) not in late


async def at_work(process: Process) -> bool:
    return process.at_work > 0


async def heard_up_to_now(here: Process) -> asyncio.Future[str]:
    """Resolves once everything notified before now has been delivered."""
    database = here.services.dispatch.services.database
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await database.listener.listen("test_mark", seen.set_result)
    async with database.system() as connection:
        await connection.execute("SELECT pg_notify('test_mark', '')")
    return seen


async def waits_for_a_lock(urls: DatabaseUrls) -> None:
    """Return once a server of this test's database waits for a lock."""
    watching = await asyncpg.connect(urls.superuser)

    async def waiting() -> bool:
        return bool(
            await watching.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'innkeeper_app'"
                " AND datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    try:
        await eventually(waiting)
    finally:
        await watching.close()
