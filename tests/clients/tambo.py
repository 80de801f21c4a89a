"""A house for clients of ``/v1``, and what they are told to do (tambo.mjs)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from db import accounts
from db.embedded.cluster import EmbeddedPostgres
from db.ids import uuid7
from tests.clients.javascript import JavaScript
from tests.conftest import DatabaseUrls
from tests.fakes.openai_server import ScriptedModel, scripted_model
from tests.serving import house_on_socket, scripted

Told = dict[str, Any]


@dataclass
class Inn:
    """The whole product on a socket, for a module; each test has a project of its own."""

    url: str
    urls: DatabaseUrls
    owner: asyncpg.Connection[asyncpg.Record]
    model: ScriptedModel
    javascript: JavaScript

    @asynccontextmanager
    async def other_server(self) -> AsyncIterator[str]:
        """The address of a second server over the same database."""
        async with house_on_socket(self.urls, scripted(self.model.base_url)) as served:
            yield served.url

    async def client(self, **how: Any) -> Client:
        user_id = await accounts.create_user(self.owner, f"{uuid7().hex}@example.test", "Somebody")
        project_id = uuid7()
        await self.owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Shop', $2)", project_id, user_id
        )
        _id, key = await accounts.create_key(self.owner, user_id, project_id=project_id)
        return Client(self, user_id, project_id, {"key": key, **how})


@dataclass
class Client:
    inn: Inn
    user_id: UUID
    project_id: UUID
    task: Told

    async def does(self, *steps: Told, **how: Any) -> list[Any]:
        """Whatever the reducer of the client would warn of is a fault."""
        said = await self.inn.javascript.script("tambo", {"url": self.inn.url, **self.task, **how, "steps": steps})
        assert said["warnings"] == []
        self.called = said["called"]
        found: list[Any] = said["found"]
        return found

    async def publishable(self) -> str:
        owner, page = self.inn.owner, "https://shop.example"
        _id, key = await accounts.create_publishable_key(owner, self.user_id, self.project_id, origins=[page])
        return key

    async def exchange(self) -> Told:
        """A request for a token of ours, of a project that takes anybody's word for who they are."""
        await self.inn.owner.execute(
            "INSERT INTO token_sources (project_id, id, kind, created_by) VALUES ($1, $2, 'none', $3)",
            *(self.project_id, uuid7(), self.user_id),
        )
        claims = {"iss": "https://id.example", "sub": "ann", "exp": int(time()) + 600}
        parts = [
            urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256"}, claims)
        ]
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": ".".join([*parts, "AAAA"]),
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }

    async def visitor(self, key: str) -> str:
        """The token of somebody new, by that key."""
        form = {"grant_type": "urn:innkeeper:params:oauth:grant-type:anonymous", "client_id": key}
        async with httpx2.AsyncClient(trust_env=False, headers={"origin": "https://shop.example"}, timeout=60) as http:
            answer = await http.post(f"{self.inn.url}/oauth/token", data=form)
        return str(answer.json()["access_token"])


@asynccontextmanager
async def opened(cluster: EmbeddedPostgres, javascript: JavaScript, files: Path) -> AsyncIterator[Inn]:
    """On a database of its own."""
    name = f"test_{uuid7().hex}"
    roles = ("innkeeper_owner", "innkeeper_app", "innkeeper_ops", "postgres")
    urls = DatabaseUrls(*(cluster.url(name, role) for role in roles))
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    try:
        await superuser.execute(f'CREATE DATABASE "{name}" TEMPLATE innkeeper OWNER innkeeper_owner')
        owner = await asyncpg.connect(urls.owner)
        async with scripted_model() as model, house_on_socket(urls, scripted(model.base_url), files) as served:
            yield Inn(served.url, urls, owner, model, javascript)
        await owner.close()
        await superuser.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await superuser.close()


def user(*blocks: Told) -> Told:
    return {"role": "user", "content": list(blocks)}


def types(run: Told) -> list[str]:
    return [event["type"] for event in run["events"]]


def texts(thread: Told) -> list[str]:
    return ["".join(block["text"] for block in message["content"]) for message in thread["messages"]]


def refused(answer: Told) -> tuple[int, str]:
    error = answer["error"]
    return error["status"], error["type"].removeprefix("urn:innkeeper:error:")


def events(stream: str) -> list[Told]:
    """Of a whole stream."""
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
