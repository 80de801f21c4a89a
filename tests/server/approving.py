"""A tool that asks first, a house that serves it, and a person who answers; for the tests of approvals."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import httpx2
from pydantic import BaseModel
from starlette.applications import Starlette

from db import sessions
from db.credentials import Authenticator
from db.database import Database
from db.principal import Principal
from db.scopes import Scope
from server.app import create_app
from server.keyring import Keyring
from tests.conftest import Owner, Tenant
from tests.server.edge_services import EdgeServices, served
from tools.catalog import CATALOG, Catalog
from tools.contract import Caller, ProjectId, tool
from tools.dispatch import Dispatch
from tools.ports import Services


class Sent(BaseModel):
    sent: bool = True


@tool(Scope.projects_write, read_only=False, destructive=False, idempotent=False, open_world=True, target="to")
async def send(call: Caller, project_id: ProjectId, to: str, text: str = "") -> Sent:
    """Send something out of the house. What was sent is left in the project's instructions."""
    async with call.transaction() as connection:
        await connection.execute(
            "UPDATE projects SET instructions = instructions || $1 || ';' WHERE id = $2", f"{to}{text}", project_id
        )
    return Sent()


async def sent(owner: Owner, tenant: Tenant) -> str:
    """What ``send`` has sent out of the house."""
    found: str = await owner.fetchval("SELECT instructions FROM projects WHERE id = $1", tenant.project_id)
    return found


SENDING = Catalog((*CATALOG.tools, send), CATALOG.resources)
KEYRING = Keyring(b"a root that only tests have")


def sending_app(
    database: Database, authenticator: Authenticator, services: Services, keyring: Keyring = KEYRING, **more: Any
) -> Starlette:
    """The whole application with ``send`` in its catalogue. ``more``: further parts of ``EdgeServices``."""
    dispatch = Dispatch(services, SENDING)
    parts = {"keyring": keyring, **more}
    edge = EdgeServices(SENDING, dispatch, cast("Any", authenticator), cast("Any", database), **parts)
    return create_app(cast("Any", edge))


@asynccontextmanager
async def nobody(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """The browser of somebody who has not signed in; it keeps cookies and sends its origin with forms."""
    async with (
        served(app) as (host, port),
        httpx2.AsyncClient(
            base_url=f"http://{host}:{port}", follow_redirects=True, trust_env=False, timeout=60
        ) as browser,
    ):
        browser.headers["origin"] = str(browser.base_url).rstrip("/")
        yield browser


async def sign_in(browser: httpx2.AsyncClient, owner: Owner, user_id: UUID) -> None:
    """As a person does with the link of ``innkeeper open``. Whoever was signed in before is so no more."""
    link = await sessions.create_link(owner, user_id)
    opened = await browser.post("/sign-in/link", data={"link": link, "to": "/approvals"})
    assert opened.status_code == 200


async def session_of(database: Database, owner: Owner, user_id: UUID) -> Principal:
    token = await sessions.open_session(database, await sessions.create_link(owner, user_id))
    assert token is not None
    person = await sessions.find_session(database, token)
    assert person is not None
    return person


def csrf(page: httpx2.Response) -> str:
    """What the page's form is signed with."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]
