"""Somebody whose acts the audit log tells, and the rows of all that they, programs and the operator do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2

from db.ids import uuid7
from server import cli
from tests.fakes.resend_server import ResendServer
from tests.server.issuers.house import House
from tests.server.oauth.people import Inn, Person, Program
from tests.server.site.sheets import send

AGENT: Final = "A browser of this test/1.0"
PROGRAM: Final = "A program of this test"
KEY: Final = "A key of this test"
SIGN_IN_PAGE: Final = "sign-in page"
PROVIDER_KEY: Final = "sk-good-0123456789abcdef"


@dataclass(frozen=True)
class Told:
    """What the log has to say. ``who``: did it or, where the operator, the house or a stranger did, whom it concerns;
    ``client``: from where, besides the address and the browser or program."""

    who: UUID
    target: str | None
    project: UUID | None = None
    detail: str | None = None
    client: str = "pages"


@dataclass
class World:
    """Somebody with the projects One and Two, signed in, and what they and others need."""

    inn: Inn
    person: Person
    house: House = field(repr=False)
    resend: ResendServer = field(repr=False)
    links: list[str | None] = field(repr=False)

    @property
    def me(self) -> UUID:
        return self.person.user_id

    @property
    def one(self) -> UUID:
        return self.person.projects["One"]

    async def email(self, user_id: UUID | None = None) -> str:
        return str(await self.inn.owner.fetchval("SELECT email FROM users WHERE id = $1", user_id or self.me))

    async def newest(self, table: str, condition: str, *given: object) -> Any:
        query = f"SELECT id FROM {table} WHERE {condition} ORDER BY id DESC LIMIT 1"
        return await self.inn.owner.fetchval(query, *given)

    async def session(self) -> UUID:
        mine: UUID = await self.newest("credentials", "kind = 'session' AND user_id = $1", self.me)
        return mine

    async def form(self, page: str, action: str = "", person: Person | None = None, **typed: Any) -> httpx2.Response:
        """Open a page of the project, or of the house, and send one of its forms."""
        person = person or self.person
        sent = await send(
            person, await person.browser.get(self.path(page)), self.path(action) if action else "", **typed
        )
        assert sent.status_code in (200, 303), sent.text
        return sent

    def path(self, page: str) -> str:
        return page if page.startswith("/") else f"/projects/{self.one}/{page}"

    async def innkeeper(self, *arguments: str) -> None:
        """A command of the operator. It sets up logging for its process, which is put back."""
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            assert await asyncio.to_thread(cli.main, arguments) == 0, arguments
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)

    async def program(self) -> Program:
        return await self.inn.program(client_name=PROGRAM)

    @contextlib.asynccontextmanager
    async def guest(self) -> AsyncIterator[Person]:
        """Somebody else, in a browser of the same name."""
        async with self.inn.person("Theirs") as guest:
            guest.browser.headers["user-agent"] = AGENT
            yield guest

    async def invite(self, guest: Person) -> UUID:
        """Into One, as a viewer."""
        address = await self.email(guest.user_id)
        await self.form("members", "members/invite", email=address, role="viewer")
        invitation: UUID = await self.newest("invitations", "address = $1", address)
        return invitation

    async def join(self, guest: Person) -> None:
        await self.inn.owner.execute(
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, 'viewer')",
            *(guest.user_id, self.one),
        )


Act = Callable[[World], Awaitable[Told]]


@dataclass(frozen=True)
class Row:
    """One way to do what the log calls ``kind``. ``ways``: the routes and commands it goes by."""

    kind: str
    ways: tuple[str, ...]
    act: Act


ROWS: Final[list[Row]] = []
P: Final = "/projects/{project_id:uuid}"


def row(kind: str, *ways: str) -> Callable[[Act], Act]:
    def enter(act: Act) -> Act:
        ROWS.append(Row(kind, ways, act))
        return act

    return enter


OperatorsAct = Callable[[World], Awaitable[tuple[UUID, str, UUID | None]]]


def operators(kind: str, command: str, detail: str | None = None) -> Callable[[OperatorsAct], None]:
    """A row of the operator's: gives the account it concerns, the target and the project."""

    def enter(act: OperatorsAct) -> None:
        async def told(world: World) -> Told:
            whom, target, project = await act(world)
            return Told(whom, target, project, detail, client="command line")

        ROWS.append(Row(kind, (command,), told))

    return enter


async def with_github(world: World, http: httpx2.AsyncClient | None = None) -> UUID:
    """Somebody new, who signs up with GitHub."""
    number = uuid7().int % 10**9
    world.house.github.of(number, (f"{number}@example.org", True, True))
    async with world.house.browser() as browser:
        if http is not None:
            browser.http = http
        browser.http.headers["user-agent"] = AGENT
        assert (await browser.sign_in("github")).status_code == 303
    user_id: UUID = await world.newest("users", "email = $1", f"{number}@example.org")
    return user_id
