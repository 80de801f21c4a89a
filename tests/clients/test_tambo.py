"""npm @tambo-ai/client 1.1 and @tambo-ai/typescript-sdk 0.96 against ``/v1``: real clients of the reference's wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from db import accounts
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from tests.clients.javascript import JavaScript
from tests.conftest import DatabaseUrls
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.fakes.script import Turn
from tests.serving import house_on_socket, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")
Told = dict[str, Any]


@dataclass
class Inn:
    """The whole product on a socket, for a module; each test has a project of its own."""

    url: str
    owner: asyncpg.Connection[asyncpg.Record]
    model: ScriptedModel
    javascript: JavaScript

    async def client(self, **how: Any) -> Client:
        user_id = await accounts.create_user(self.owner, f"{uuid7().hex}@example.test", "Somebody")
        project_id = uuid7()
        await self.owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Shop', $2)", project_id, user_id
        )
        _id, key = await accounts.create_key(self.owner, user_id, project_id=project_id)
        return Client(self, {"key": key, **how})


@dataclass
class Client:
    inn: Inn
    task: Told

    async def does(self, *steps: Told, **how: Any) -> list[Any]:
        """Whatever the reducer of the client would warn of is a fault."""
        said = await self.inn.javascript.script("tambo", {"url": self.inn.url, **self.task, **how, "steps": steps})
        assert said["warnings"] == []
        self.called = said["called"]
        found: list[Any] = said["found"]
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inn(cluster: EmbeddedPostgres, javascript: JavaScript) -> AsyncIterator[Inn]:
    name = f"test_{uuid7().hex}"
    roles = ("innkeeper_owner", "innkeeper_app", "innkeeper_ops", "postgres")
    urls = DatabaseUrls(*(cluster.url(name, role) for role in roles))
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        owner = await asyncpg.connect(urls.owner)
        async with scripted_model() as model, house_on_socket(urls, scripted(model.base_url)) as served:
            yield Inn(served.url, owner, model, javascript)
        await owner.close()
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


async def test_the_client_talks_in_a_thread_and_reads_it_again(inn: Inn) -> None:
    client = await inn.client()
    inn.model.script(Turn("Good ", "evening."), Turn("Room ", "seven."))
    first, second, read, listed, messages = await client.does(
        {"run": "Hello"},
        {"run": "Which room?", "thread": "$thread"},
        {"sdk": "threads.retrieve", "args": ["$thread"]},
        {"client": "listThreads"},
        {"sdk": "threads.messages.list", "args": ["$thread", {"limit": 3, "order": "desc"}]},
    )
    assert next(event["type"] for event in first["events"]) == "RUN_STARTED"
    assert texts(second["thread"]) == ["Hello", "Good evening.", "Which room?", "Room seven."]
    assert texts(read) == texts(second["thread"])
    assert [one["id"] for one in listed] == [read["id"]] == [second["threadId"]]
    assert read["lastCompletedRunId"] == second["runId"]
    assert texts(messages) == ["Room seven.", "Which room?", "Good evening."]
    assert messages["hasMore"]


def texts(thread: Told) -> list[str]:
    return ["".join(block["text"] for block in message["content"]) for message in thread["messages"]]
