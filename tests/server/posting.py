"""A house with a post and a worker in the test's own event loop, over the test's own database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx2

from db.credentials import Authenticator
from db.database import Database
from server.app import create_app
from server.jobs.catalog import JOBS
from server.jobs.worker import WorkerRules, working
from server.mail.post import Post
from tests.conftest import Owner, Tenant, eventually
from tests.server.approving import nobody
from tests.server.edge_services import EdgeServices, post_of
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.ports import Services

if TYPE_CHECKING:
    from server.services import Services as HouseServices

MAIL_JOBS = tuple(job for job in JOBS if job.kind in ("deliver_email", "deliver_house_mail", "join_audience"))


@dataclass
class Mailroom:
    """Sends mails of a project by its tools, and looks at what became of them."""

    dispatch: Dispatch
    tenant: Tenant
    owner: Owner
    post: Post
    database: Database

    async def send(self, **arguments: Any) -> UUID:
        given = {
            "project_id": str(self.tenant.project_id),
            "to": ["Ada <ada@example.org>"],
            "subject": "Hello",
            "text": "A word.",
            **arguments,
        }
        sent = await self.dispatch.call(self.tenant.principal, "send_email", given)
        return UUID(sent.structured["id"])

    async def read(self, email_id: UUID) -> dict[str, Any]:
        given = {"project_id": str(self.tenant.project_id), "email_id": str(email_id)}
        return (await self.dispatch.call(self.tenant.principal, "get_email", given)).structured

    async def row(self, email_id: UUID) -> Any:
        return await self.owner.fetchrow("SELECT * FROM emails WHERE id = $1", email_id)

    async def until(self, email_id: UUID, *statuses: str) -> dict[str, Any]:
        """The mail, once it is in one of these states."""

        async def reached() -> bool:
            return (await self.row(email_id))["status"] in statuses

        await eventually(reached)
        return await self.read(email_id)

    async def history(self, email_id: UUID) -> list[tuple[str, str | None]]:
        return [(one["event"], one["detail"]) for one in (await self.read(email_id))["events"]]

    async def until_deferred(self, email_id: UUID, times: int = 1) -> dict[str, Any]:
        async def reached() -> bool:
            counted = "SELECT count(*) FROM email_events WHERE email_id = $1 AND kind = 'deferred'"
            return bool(await self.owner.fetchval(counted, email_id) >= times)

        await eventually(reached)
        return await self.read(email_id)

    async def hurry(self) -> None:
        """Every attempt that waits for its time has it now."""
        await self.owner.execute("UPDATE ops.pgqueuer SET execute_after = now() WHERE status = 'queued'")

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Meanwhile there is a worker for mail."""
        async with working(self._services, WorkerRules(4, 5.0), MAIL_JOBS):
            yield

    @property
    def _services(self) -> HouseServices:
        return cast("HouseServices", SimpleNamespace(database=self.database, dispatch=self.dispatch, post=self.post))


@asynccontextmanager
async def mailroom(
    services: Services, tenant: Tenant, owner: Owner, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Mailroom]:
    """``environ``: how the house sends mail; by default not at all."""
    post = post_of(environ or {})
    try:
        dispatch = Dispatch(replace(services, mail=post.rules))
        yield Mailroom(dispatch, tenant, owner, post, services.database)
    finally:
        await post.aclose()


@asynccontextmanager
async def browsing(room: Mailroom, authenticator: Authenticator, **changes: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """The whole application of a house with this post, and somebody who has not signed in. ``changes``: to services."""
    edge = EdgeServices(
        CATALOG, room.dispatch, cast("Any", authenticator), cast("Any", room.database), post=room.post, **changes
    )
    async with nobody(create_app(cast("Any", edge))) as browser:
        yield browser
