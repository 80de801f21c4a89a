"""A project's post, as tests of its tools use it."""

from __future__ import annotations

from typing import Any

import pytest

from db.errors import AppError
from tests.conftest import Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.tools.project_tools import ProjectTools
from tools.catalog import CATALOG
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

TO = ["Ada <ada@example.org>"]
EVERY_FAMILY = Narrowing(families=CATALOG.families)
LETTER: dict[str, Any] = {"to": TO, "subject": "Hello", "text": "A word."}


class Office(ProjectTools):
    """Calls the tools of a project, and looks at its outbox as the owner of the database."""

    narrowing = EVERY_FAMILY

    def __init__(self, dispatch: Dispatch, tenant: Tenant, owner: Owner) -> None:
        super().__init__(dispatch, tenant)
        self.owner = owner

    async def refused(self, tool: str = "send_email", /, **arguments: Any) -> AppError:
        return await super().refused(tool, **({**LETTER, **arguments} if tool == "send_email" else arguments))

    async def send(self, **arguments: Any) -> dict[str, Any]:
        return await self.call("send_email", **{**LETTER, **arguments})

    async def written(self) -> list[Any]:
        return await self.owner.fetch("SELECT * FROM emails WHERE project_id = $1 ORDER BY id", self.tenant.project_id)

    async def jobs(self) -> list[Any]:
        return await self.owner.fetch(
            "SELECT convert_from(payload, 'UTF8')::jsonb ->> 'email_id' AS email_id, execute_after, project_id"
            " FROM ops.pgqueuer WHERE entrypoint = 'deliver_email' AND project_id = $1 ORDER BY id",
            self.tenant.project_id,
        )

    async def suppress(self, address: str, reason: str) -> None:
        await self.owner.execute(
            "INSERT INTO suppressions (project_id, address, reason) VALUES ($1, $2, $3)",
            *(self.tenant.project_id, address, reason),
        )


@pytest.fixture
def office(dispatch: Dispatch, tenant: Tenant, owner: Owner) -> Office:
    return Office(dispatch, tenant, owner)


async def ready_file(
    office: Office, store: MemoryStore, path: str, data: bytes, content_type: str = "application/octet-stream"
) -> str:
    made = await office.call("create_upload", path=path, size=len(data), content_type=content_type)
    store.send(f"files/{office.tenant.project_id}/{made['id']}", data)
    await office.call("confirm_upload", file_id=made["id"])
    return str(made["id"])
