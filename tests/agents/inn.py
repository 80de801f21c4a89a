"""A whole house on a socket for the tests of runs: real database, real MCP endpoint, real HTTP, a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from agents.engine import RunEngine
from agents.model_ports import TenantEndpoints
from agents.model_spec import ModelSpec
from agents.models import ModelFactory
from db.credentials import Authenticator
from db.database import Database
from server.http import component_state, runs
from server.http.callers import Callers
from server.http.front_door import FrontDoor
from server.http.pages_of_keys import PagesOfKeys
from server.keyring import Keyring
from server.mcp import endpoint
from server.metrics import Metrics
from server.project_keys import ProjectKeys
from server.v1 import routes as v1
from server.vault import Vault
from tests.conftest import DatabaseUrls, Owner, Tenant, opened
from tests.fakes.outside import reaching_loopback
from tests.fakes.sockets import on_socket
from tools.catalog import CATALOG, Catalog
from tools.consent import Consent
from tools.dispatch import Dispatch
from tools.ports import Services

Event = dict[str, Any]


class Reachable(Protocol):
    """A house that can be asked over HTTP, wherever it lives."""

    @property
    def url(self) -> str: ...

    @property
    def client(self) -> httpx2.AsyncClient: ...


@dataclass(frozen=True)
class Inn:
    """One process of the house. ``url`` is where it listens."""

    url: str
    engine: RunEngine
    database: Database
    client: httpx2.AsyncClient


KEYRING: Final = Keyring(b"a root that only tests have")


@dataclass(frozen=True)
class HouseServices:
    """What the MCP endpoint and the runs edge are built over."""

    authenticator: Authenticator
    dispatch: Dispatch
    catalog: Catalog
    engine: RunEngine
    keyring: Keyring = KEYRING
    public_url: str | None = None


@asynccontextmanager
async def inn(
    urls: DatabaseUrls,
    *,
    model_url: str | None = None,
    default: str = "openai-chat:scripted",
    model_key: str | None = None,
    tenants: TenantEndpoints | None = None,
    keyring: Keyring = KEYRING,
    catalog: Catalog = CATALOG,
) -> AsyncIterator[Inn]:
    """One process. ``model_url``: the scripted model's base URL; without it no model is configured. ``tenants``: the
    way to base URLs of projects, by default to this machine too."""
    async with opened(urls) as database, httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        authenticator = Authenticator(database)
        await authenticator.start()
        spec = ModelSpec(default, base_url=model_url, api_key=model_key) if model_url else None
        keys = ProjectKeys(database, Vault(keyring))
        models = ModelFactory(default=spec, tenants=tenants or reaching_loopback(), keys=keys)
        engine = RunEngine(database, models)
        reached = Services(database, engine)
        services = HouseServices(authenticator, Dispatch(reached, catalog), catalog, engine)
        engine.ask(Consent(reached, catalog))
        mcp_app = endpoint.build(services)
        engine.use(mcp_app)
        callers = Callers(database, authenticator, PagesOfKeys(database))
        app = Starlette(
            routes=[
                Route("/mcp", mcp_app),
                *runs.routes(services, callers),
                component_state.route(services, callers),
                *v1.routes(services, callers),
            ],
            middleware=[Middleware(FrontDoor, metrics=Metrics())],
        )
        await engine.open()
        try:
            async with on_socket(app) as url:
                yield Inn(url, engine, database, client)
                await engine.shutdown(0)
        finally:
            await engine.shutdown(0)
            await models.aclose()


def user(text: str, message_id: str | None = None) -> dict[str, Any]:
    return {"id": message_id or str(uuid4()), "role": "user", "content": text}


def body(*messages: dict[str, Any], thread: str | None = None, run: str | None = None, **more: Any) -> dict[str, Any]:
    return {"threadId": thread or str(uuid4()), "runId": run or str(uuid4()), "messages": list(messages), **more}


@dataclass
class Stream:
    """What came back: ``events`` as JSON values, ``ids`` and ``raw`` as they were on the wire."""

    status: int
    headers: httpx2.Headers
    events: list[Event] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    raw: bytes = b""
    problem: dict[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def last(self) -> Event:
        return self.events[-1]

    @property
    def text(self) -> str:
        return "".join(event["delta"] for event in self.events if event["type"] == "TEXT_MESSAGE_CONTENT")

    def feed(self, data: bytes) -> None:
        """Take complete server-sent events in."""
        self.raw += data
        *whole, _rest = self.raw.split(b"\n\n")
        for frame in whole[len(self.ids) + self._comments :]:
            if frame.startswith(b":"):
                self._comments += 1
                continue
            number, payload = frame.split(b"\n", 1)
            self.ids.append(int(number.removeprefix(b"id: ")))
            self.events.append(json.loads(payload.removeprefix(b"data: ")))

    _comments: int = 0


async def run(
    house: Reachable, token: str, asked: dict[str, Any], *, agent: str | None = None, project: UUID | None = None
) -> Stream:
    """POST a run and read all of it."""
    async with running(house, token, asked, agent=agent, project=project) as (stream, response):
        if stream.status == 200:
            async for data in response.aiter_raw():
                stream.feed(data)
    return stream


@asynccontextmanager
async def running(
    house: Reachable, token: str, asked: dict[str, Any], *, agent: str | None = None, project: UUID | None = None
) -> AsyncIterator[tuple[Stream, httpx2.Response]]:
    """POST a run and leave its stream open."""
    path = "/agui" if agent is None else f"/agui/{agent}"
    params = {} if project is None else {"project": str(project)}
    headers = {"authorization": f"Bearer {token}"}
    async with house.client.stream("POST", house.url + path, params=params, json=asked, headers=headers) as response:
        stream = Stream(response.status_code, response.headers)
        if response.status_code != 200:
            stream.problem = json.loads(await response.aread())
        yield stream, response


@asynccontextmanager
async def following(
    house: Reachable, token: str, run_id: str, after: int | str | None = None, project: UUID | None = None
) -> AsyncIterator[tuple[Stream, httpx2.Response]]:
    """GET the events of a run from behind one of them, and leave the stream open."""
    headers = {"authorization": f"Bearer {token}"}
    if after is not None:
        headers["last-event-id"] = str(after)
    params = {} if project is None else {"project": str(project)}
    async with house.client.stream(
        "GET", f"{house.url}/runs/{run_id}/events", params=params, headers=headers
    ) as response:
        stream = Stream(response.status_code, response.headers)
        if response.status_code >= 400:
            stream.problem = json.loads(await response.aread())
        yield stream, response


async def followed(
    house: Reachable, token: str, run_id: str, after: int | str | None = None, project: UUID | None = None
) -> Stream:
    """GET the events of a run from behind one of them to its end."""
    async with following(house, token, run_id, after, project) as (stream, response):
        if response.status_code == 200:
            await rest(stream, response.aiter_raw())
    return stream


@asynccontextmanager
async def speaking(
    house: Reachable, token: str, asked: dict[str, Any]
) -> AsyncIterator[tuple[Stream, AsyncIterator[bytes]]]:
    """POST a run, and go on once its model has said something: the next run then gets the next turn of the script."""
    async with running(house, token, asked) as (stream, response):
        chunks = response.aiter_raw()
        await until(stream, chunks, "TEXT_MESSAGE_CONTENT")
        yield stream, chunks


async def until(stream: Stream, response: AsyncIterator[bytes], kind: str) -> Event:
    """Read on until an event of ``kind`` has come."""
    while kind not in stream.types:
        stream.feed(await anext(response))
    return next(event for event in stream.events if event["type"] == kind)


async def rest(stream: Stream, chunks: AsyncIterator[bytes]) -> Stream:
    """Read on to the end."""
    async for data in chunks:
        stream.feed(data)
    return stream


async def another_project(owner: Owner, tenant: Tenant) -> UUID:
    """A second one of the tenant's."""
    made = uuid4()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'Other', $2)", made, tenant.user_id)
    return made


async def orphan(owner: Owner) -> None:
    """What a kill -9 leaves: leases that nobody renews. Who had them is still there, and must find out by itself."""
    await owner.execute(
        "UPDATE runs SET lease_owner = $1, lease_expires_at = now() - interval '1 second' WHERE status = 'running'",
        uuid4(),
    )


async def ended(owner: Owner, run_id: str, seconds: float = 60) -> str:
    """Wait for the end of a run and give its status."""
    async with asyncio.timeout(seconds):
        while True:
            status = await owner.fetchval("SELECT status FROM runs WHERE external_id = $1", run_id)
            if status not in ("queued", "running"):
                return str(status)
            await asyncio.sleep(0.02)
