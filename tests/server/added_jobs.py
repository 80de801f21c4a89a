"""Jobs as tests add them, an effect that one may have, and waits between attempts that are none."""

from __future__ import annotations

from datetime import datetime

from db.database import Database
from db.ids import uuid7
from db.jobs import enqueue
from server.jobs.job import JobCall
from tests.conftest import Tenant

AT_ONCE = (0.0, 0.0, 0.0)


async def add(database: Database, tenant: Tenant, kind: str = "work", at: datetime | None = None) -> int:
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        return await enqueue(connection, kind, {"file_id": tenant.project_id, "part": 3}, at=at)


async def make_thread(job: JobCall, name: str = "made by a job") -> None:
    """An effect that is visible, in one transaction with the job's end."""
    async with job.transaction() as connection:
        await connection.execute(
            "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, $3)", job.project_id, uuid7(), name
        )
        await job.finish(connection)
