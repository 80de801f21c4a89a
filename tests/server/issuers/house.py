"""A house with a Google, a company and a GitHub to sign in with, and people who come back from there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2

from db.ids import uuid7
from db.jobs import enqueue_for
from server.app import create_app
from server.http.proxies import TrustedProxies
from server.jobs.catalog import JOBS
from server.jobs.job import Job
from server.jobs.worker import WorkerRules, working
from server.limits.newcomers import Newcomers
from server.site.session import COOKIE as SESSION
from tests.conftest import eventually
from tests.fakes.github_server import GitHubServer
from tests.server.edge_services import served
from tests.server.oauth.people import Inn, Person

CHECKS = tuple(replace(job, retries=(0.01,)) for job in JOBS if job.kind in ("look_at_identities", "recheck_identity"))


@dataclass
class Peer:
    """An issuer that npm's oidc-provider plays."""

    id: str
    url: str

    async def control(self, **changes: Any) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.post(f"{self.url}/_control", content=json.dumps(changes))
        found: dict[str, Any] = answer.json()
        return found

    async def someone(self, subject: str, email: str, *, verified: bool | None = True, name: str = "") -> None:
        """Who signs in next, and is known there."""
        claims: dict[str, Any] = {"email": email, "email_verified": verified, "name": name or subject}
        accounts = {**(await self.control())["accounts"], subject: claims}
        await self.control(who=subject, accounts=accounts, cancel=False, down=0)

    async def without(self, subject: str) -> None:
        """The account is closed there."""
        accounts = (await self.control())["accounts"]
        accounts.pop(subject)
        await self.control(accounts=accounts)


@dataclass
class House:
    inn: Inn = field(repr=False)
    google: Peer
    acme: Peer
    github: GitHubServer = field(repr=False)

    @property
    def url(self) -> str:
        return self.inn.url

    @contextlib.asynccontextmanager
    async def browser(self, address: str = "") -> AsyncIterator[Browser]:
        """``address``: where it is, in a house behind a proxy."""
        async with self.inn.browser() as http:
            if address:
                http.headers["x-forwarded-for"] = address
            yield Browser(self, http)

    @contextlib.asynccontextmanager
    async def changed(self, **changes: Any) -> AsyncIterator[House]:
        """The same house with other services, behind a proxy on this machine."""
        app = TrustedProxies(create_app(replace(self.inn.services, **changes)), (ip_network("127.0.0.1/32"),))
        async with served(app) as (host, port):
            inn = Inn(f"http://{host}:{port}", self.inn.owner, self.inn.services, self.inn.owner_url)
            yield House(inn, self.google, self.acme, self.github)

    @property
    def strict(self) -> Any:
        """Limits as in production, on a clock that does not move."""
        return Newcomers(self.inn.services.database, clock=lambda: 0.0)

    async def account(self, address: str) -> Any:
        return await self.inn.owner.fetchrow("SELECT * FROM users WHERE email = $1", address)

    async def add(self, address: str) -> UUID:
        """An account that there is, whoever signs in to it."""
        user_id = uuid7()
        await self.inn.owner.execute("INSERT INTO users (id, email) VALUES ($1, $2)", user_id, address)
        return user_id

    async def invite(self, host: UUID, address: str) -> None:
        """Into a project of ``host``."""
        project_id = uuid7()
        await self.inn.owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Harbour', $2)", project_id, host
        )
        await self.inn.owner.execute(
            "INSERT INTO invitations (project_id, id, address, role, invited_by, token_hash)"
            " VALUES ($1, $2, $3, 'member', $4, $5)",
            *(project_id, uuid7(), address, host, uuid7().bytes),
        )

    async def identity(self, subject: str) -> Any:
        return await self.inn.owner.fetchrow("SELECT * FROM identities WHERE subject = $1", subject)

    async def recheck(self, subject: str) -> Any:
        """A day has passed, and a worker looks; the identity as it is then."""
        await self.inn.owner.execute(
            "UPDATE identities SET checked_at = now() - interval '1 day' WHERE subject = $1", subject
        )
        await self.work(CHECKS, "look_at_identities")
        return await self.identity(subject)

    async def work(self, jobs: tuple[Job, ...], kind: str) -> None:
        """Until a job of ``kind`` of the house, and all that comes of it, is done."""
        services = self.inn.services
        async with services.database.ops() as connection:
            await enqueue_for(connection, None, kind, {})

        async def done() -> bool:
            return not await self.inn.owner.fetchval(
                "SELECT count(*) FROM ops.pgqueuer WHERE entrypoint = ANY ($1::text[])", [job.kind for job in jobs]
            )

        async with working(services, WorkerRules(2, 5.0), jobs):
            await eventually(done)


@dataclass
class Browser:
    """Somebody's browser: goes where it is sent, and keeps cookies."""

    house: House = field(repr=False)
    http: httpx2.AsyncClient = field(repr=False)

    async def begin(self, issuer: str, **query: str) -> str:
        """Press the button of ``issuer``; the address of the authorization endpoint."""
        answer = await self.http.get(f"/sign-in/with/{issuer}", params=query, headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def callback(self, address: str) -> str:
        """Go to the issuer; the address in the house to which it sends back."""
        remembered = ("google_session", "google_session.sig", "acme_session", "acme_session.sig")
        for name in {cookie.name for cookie in self.http.cookies.jar} & set(remembered):
            self.http.cookies.delete(name)  # it does not know who was there before
        for _ in range(12):
            answer = await self.http.get(address)
            assert answer.status_code in (302, 303), answer.text
            address = str(httpx2.URL(address).join(answer.headers["location"]))
            if address.startswith(self.house.url):
                return address
        raise AssertionError("the issuer sends the browser around for ever")

    async def sign_in(self, issuer: str, **query: str) -> httpx2.Response:
        """All of it, to where the person ends in the house."""
        return await self.follow(await self.begin(issuer, **query))

    async def follow(self, address: str) -> httpx2.Response:
        for _ in range(4):
            answer = await self.http.get(await self.callback(address))
            location = answer.headers.get("location", "")
            if answer.status_code != 303 or urlsplit(location).netloc == "":
                return answer
            address = location  # it is asked once more, for consent
        raise AssertionError("the house sends the browser around for ever")

    @property
    def session(self) -> str | None:
        return self.http.cookies.get(SESSION)

    async def is_signed_in(self) -> bool:
        return (await self.http.get("/sessions")).status_code == 200

    def person(self, user_id: UUID) -> Person:
        return Person(self.house.inn, self.http, user_id, {})
