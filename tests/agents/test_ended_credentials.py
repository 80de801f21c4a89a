"""What is open on a credential ends with it, at once and on every process, whoever else reads on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from agents.readers import Readers
from db import accounts, end_users, runs, users
from db.errors import AppError
from db.oauth import clients
from db.oauth.clients import HOUSE_CLIENT_ID
from db.tokens import token_hash
from tests.agents.inn import (
    Inn,
    Stream,
    body,
    ended,
    followed,
    following,
    inn,
    rest,
    run,
    running,
    speaking,
    until,
    user,
)
from tests.conftest import DatabaseUrls, House, Owner, Tenant, eventually
from tests.db.test_oauth_grants import granted
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Gate, Turn

SECONDS = 12.0
"""What a reader may take to hear of it. Nothing else wakes one up within its 15 s between two keep-alives."""
Ending = tuple[str, str, Callable[[], Awaitable[Any]]]


async def endings(owner: Owner, house: House, tenant: Tenant, inn_: Inn) -> list[Ending]:
    """A name, a token that may read runs of the tenant's project, and what ends it."""

    async def member() -> tuple[Any, str]:
        who = await house.member(tenant.project_id, "member")
        return who.user_id, await house.key(who.user_id)

    key_id, key = await accounts.create_key(owner, tenant.user_id)
    (disabled, of_disabled), (deleted, of_deleted) = await member(), await member()
    grant, of_grant = await granted(owner, tenant.user_id, scopes="runs:read")
    _grant, alone = await granted(owner, tenant.user_id, scopes="runs:read")
    suspended, of_suspended = await granted(owner, tenant.user_id, scopes="runs:read")
    client = await owner.fetchval("SELECT id FROM oauth_clients WHERE client_id = $1", HOUSE_CLIENT_ID)
    made, of_client = await of_operators_client(owner, tenant)
    return [
        ("a revoked key", key, lambda: accounts.revoke_key(owner, str(key_id))),
        ("a disabled account", of_disabled, lambda: users.disable(owner, disabled)),
        ("a deleted account", of_deleted, lambda: users.delete(owner, deleted, with_projects=True)),
        ("a disconnected app", of_grant, lambda: owner.execute("SELECT end_grant($1, 'oauth:disconnected')", grant)),
        ("a deleted client", of_client, lambda: clients.delete(owner, made)),
        ("one revoked token", alone, lambda: owner.execute("SELECT revoke_token($1, $2)", token_hash(alone), client)),
        (
            "a suspended grant",
            of_suspended,
            lambda: owner.execute("UPDATE credentials SET expires_at = now() WHERE id = $1", suspended),
        ),
    ]


async def of_operators_client(owner: Owner, tenant: Tenant) -> tuple[str, str]:
    """A client that the operator has made, and a token of it."""
    client_id, _secret = await clients.create(owner, "A client", redirect_uris=[], public=True, may_introspect=False)
    grant, token = await granted(owner, tenant.user_id, scopes="runs:read runs:write")
    await owner.execute(
        "UPDATE credentials SET client_id = (SELECT id FROM oauth_clients WHERE client_id = $2) WHERE id = $1",
        *(grant, client_id),
    )
    return client_id, token


@contextlib.asynccontextmanager
async def idle_reader(house: Inn, token: str, run_id: str, tenant: Tenant) -> AsyncIterator[tuple[Stream, Any]]:
    """A stream that has all there is."""
    async with following(house, token, run_id, project=tenant.project_id) as (reader, response):
        chunks = response.aiter_raw()
        await until(reader, chunks, "TEXT_MESSAGE_CONTENT")
        yield reader, chunks


@pytest.mark.promise("IDN-03", "IDN-12", "IDN-13")
async def test_whatever_ends_a_credential_ends_its_idle_streams_on_every_process_and_no_others(
    house_open: Inn, urls: DatabaseUrls, house: House, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Before. ", gate, "After."))
    ways = await endings(owner, house, tenant, house_open)
    async with (
        inn(urls, model_url=model.base_url) as elsewhere,
        speaking(house_open, tenant.token, body(user("Hello"), run="boss")) as (boss, boss_chunks),
        contextlib.AsyncExitStack() as stack,
    ):
        run_id = boss.headers["innkeeper-run-id"]
        other = await house.key(tenant.user_id)
        readers = {
            name: [
                await stack.enter_async_context(idle_reader(process, token, run_id, tenant))
                for process in (house_open, elsewhere)
            ]
            for name, token in [(name, token) for name, token, _ in ways] + [("somebody else", other)]
        }
        staying = readers.pop("somebody else")
        for name, _token, end in ways:
            await end()
            for reader, chunks in readers[name]:
                async with asyncio.timeout(SECONDS):
                    await rest(reader, chunks)
                assert (reader.last["type"], reader.last.get("code")) == ("RUN_ERROR", "run_gone"), name
                assert reader.ids[-1] == reader.ids[-2], "where another key goes on without losing an event"
        gate.open()
        for reader, chunks in (*staying, (boss, boss_chunks)):
            await rest(reader, chunks)
            assert (reader.text, reader.last["type"]) == ("Before. After.", "RUN_FINISHED")


async def test_a_key_that_is_revoked_while_its_stream_is_being_opened_reads_nothing(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, readers = Gate(), house_open.engine.readers
    model.script(Turn("Before. ", gate, "After."))
    key_id, key = await accounts.create_key(owner, tenant.user_id)
    look = Readers._at

    async def looked_and_revoked(self: Readers, *given: Any) -> Any:
        found = await look(self, *given)
        before = readers.heard
        await accounts.revoke_key(owner, str(key_id))
        await eventually(lambda: heard_since(readers, before))
        return found

    async with speaking(house_open, tenant.token, body(user("Hello"))) as (boss, chunks):
        monkeypatch.setattr(Readers, "_at", looked_and_revoked)
        async with asyncio.timeout(SECONDS):
            told = await followed(house_open, key, boss.headers["innkeeper-run-id"], project=tenant.project_id)
        gate.open()
        await rest(boss, chunks)
    assert [event["type"] for event in told.events] == ["RUN_ERROR"]


async def heard_since(readers: Readers, before: int) -> bool:
    return readers.heard > before


async def test_a_reader_is_not_cut_off_while_too_many_ask_at_once_whether_they_may_read_on(
    house_open: Inn, urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they all do when the database comes back: what ended meanwhile was not heard."""
    gate, readers, answers = Gate(), house_open.engine.readers, [False, True]
    model.script(Turn("Before. ", gate, "After."))
    find = runs.find

    async def crowded(*given: Any) -> Any:
        if not answers.pop(0):
            raise AppError("too_many_at_once", 429, "Not now.", "Wait.", retryable=True)
        return await find(*given)

    async with speaking(house_open, tenant.token, body(user("Hello"))) as (stream, chunks):
        before = readers.heard
        superuser = await asyncpg.connect(urls.superuser)
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'innkeeper'"
        )
        await superuser.close()
        await eventually(lambda: heard_since(readers, before))
        monkeypatch.setattr(runs, "find", crowded)
        gate.open()
        await rest(stream, chunks)
    assert (stream.text, answers) == ("Before. After.", [])


async def test_what_a_reader_without_rights_does_not_find_is_found_by_those_who_read_with_them(
    house_open: Inn, urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel
) -> None:
    """They share one look into the database; here it is that of a credential which has ended unheard."""
    model.script(Turn("Hello."))
    run_id = UUID((await run(house_open, tenant.token, body(user("Hello")))).headers["innkeeper-run-id"])
    async with inn(urls, model_url=model.base_url) as elsewhere:
        gone = replace(tenant.principal, credential_id=uuid4())
        tails = [elsewhere.engine.readers.tail(who, tenant.project_id, run_id) for who in (gone, tenant.principal)]
        nothing, everything = await asyncio.gather(*(tail.next(5) for tail in tails))
    assert [json.loads(event)["type"] for _number, event in nothing] == ["RUN_ERROR"]
    assert json.loads(everything[-1][1])["type"] == "RUN_FINISHED"
    assert [tail.gone for tail in tails] == [True, False]


@pytest.mark.promise("IDN-03")
async def test_a_reader_of_v1_who_has_all_there_is_hears_that_their_key_was_revoked(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Before. ", gate, "After."))
    key_id, key = await accounts.create_key(owner, tenant.user_id)
    async with speaking(house_open, tenant.token, body(user("Hello"))) as (boss, chunks):
        run_id = boss.headers["innkeeper-run-id"]
        thread = await owner.fetchval("SELECT thread_id FROM runs")
        url = f"{house_open.url}/v1/threads/{thread}/runs/{run_id}/events"
        headers = {"authorization": f"Bearer {key}", "last-event-id": str(boss.ids[-1])}
        async with house_open.client.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            await accounts.revoke_key(owner, str(key_id))
            async with asyncio.timeout(SECONDS):
                told = b"".join([data async for data in response.aiter_raw()])
        gate.open()
        await rest(boss, chunks)
    [last] = [json.loads(line[6:]) for line in told.splitlines() if line.startswith(b"data: ")]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "run_gone")


@pytest.mark.promise("IDN-03", "IDN-21")
async def test_a_run_ends_with_the_credential_it_was_started_with_and_with_the_key_behind_an_end_users(
    house_open: Inn, urls: DatabaseUrls, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    """On whatever process it lives; what was said stays, and another key reads that it was cancelled."""
    gate = Gate()
    key_id, key = await accounts.create_key(owner, tenant.user_id)
    page_id, page = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id)
    issued = await end_users.issue(house_open.database, page, tenant.project_id, issuer="", name="ann")
    client_id, of_client = await of_operators_client(owner, tenant)
    ways: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        (key, lambda: accounts.revoke_key(owner, str(key_id))),
        (issued.token, lambda: accounts.revoke_key(owner, str(page_id))),
        (of_client, lambda: clients.delete(owner, client_id)),
    ]
    for token, end in ways:
        name = str(uuid4())
        model.script(Turn("Before. ", gate, "After."))
        async with running(house_open, token, body(user("Hello"), run=name)) as (stream, response):
            chunks = response.aiter_raw()
            await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
            await end()
            async with asyncio.timeout(SECONDS):
                await rest(stream, chunks)
        assert await ended(owner, name) == "cancelled"
        assert stream.last["type"] in ("RUN_ERROR", "RUN_FINISHED")
        assert "After." not in stream.text
    gate.open()


@pytest.mark.promise("IDN-13")
async def test_who_waits_for_a_run_over_mcp_is_refused_as_soon_as_their_key_is_revoked(
    house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner
) -> None:
    gate = Gate()
    model.script(Turn("Before. ", gate, "After."))
    key_id, key = await accounts.create_key(owner, tenant.user_id)
    async with speaking(house_open, tenant.token, body(user("Hello"))) as (boss, chunks):
        arguments = {
            "project_id": str(tenant.project_id),
            "run_id": boss.headers["innkeeper-run-id"],
            "wait_seconds": 60,
        }
        params = {"name": "get_run", "arguments": arguments, "_meta": {"progressToken": "t"}}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        headers = {
            "authorization": f"Bearer {key}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
        }
        url = f"{house_open.url}/mcp"
        async with house_open.client.stream("POST", url, json=message, headers=headers) as response:
            told = response.aiter_raw()
            assert b"says something" in await anext(told)
            await accounts.revoke_key(owner, str(key_id))
            async with asyncio.timeout(SECONDS):
                said = b"".join([data async for data in told])
        gate.open()
        await rest(boss, chunks)
    assert boss.text == "Before. After."
    assert b"After." not in said
    assert json.loads(said.rpartition(b"data: ")[2])["error"]["data"]["code"] == "unauthenticated"
