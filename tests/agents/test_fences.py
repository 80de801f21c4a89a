"""What the tools of a run write is fenced by the run's lease, as its events are."""

from __future__ import annotations

import pytest

from db.database import Database
from db.errors import AppError
from db.principal import Principal
from tests.conftest import Owner, Tenant, living_run
from tools.dispatch import Dispatch

pytestmark = pytest.mark.promise("RUN-05")


async def grant_of(owner: Owner, tenant: Tenant) -> Principal:
    return tenant.principal.for_run(await living_run(owner, tenant), depth=1, epoch=1)


async def names(owner: Owner) -> list[str]:
    return [row["name"] for row in await owner.fetch("SELECT name FROM projects WHERE name LIKE 'Made %'")]


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE runs SET lease_epoch = 2",
        "UPDATE runs SET status = 'cancelled', lease_owner = NULL, lease_expires_at = NULL",
        "DELETE FROM runs",
    ],
)
async def test_a_run_that_was_taken_over_has_ended_or_is_gone_writes_nothing_more(
    dispatch: Dispatch, owner: Owner, tenant: Tenant, loss: str
) -> None:
    grant = await grant_of(owner, tenant)
    await dispatch.call(grant, "create_project", {"name": "Made before"})
    await owner.execute(loss)
    with pytest.raises(AppError) as refused:
        await dispatch.call(grant, "create_project", {"name": "Made after"})
    assert (refused.value.code, refused.value.status) == ("run_lease_lost", 409)
    assert await names(owner) == ["Made before"]


@pytest.mark.parametrize("loss", ["UPDATE runs SET lease_epoch = 2", "UPDATE runs SET status = 'succeeded'"])
async def test_what_was_begun_under_the_lease_is_not_committed_without_it(
    database: Database, owner: Owner, tenant: Tenant, loss: str
) -> None:
    grant = await grant_of(owner, tenant)

    async def write() -> None:
        async with database.transaction(grant) as connection:
            await connection.execute(
                "INSERT INTO projects (id, name, created_by) VALUES (gen_random_uuid(), 'Made by a run', $1)",
                tenant.user_id,
            )
            await owner.execute(loss)

    with pytest.raises(AppError, match="another process") as refused:
        await write()
    assert refused.value.code == "run_lease_lost"
    assert await names(owner) == []
    async with database.transaction(tenant.principal) as connection:
        assert await connection.fetchval("SELECT count(*) FROM projects") == 1


async def test_a_run_may_delete_what_it_is_part_of(
    dispatch: Dispatch, owner: Owner, tenant: Tenant, unasked: None
) -> None:
    grant = await grant_of(owner, tenant)
    thread_id = await owner.fetchval("SELECT thread_id FROM runs")
    given = {"project_id": str(tenant.project_id), "thread_id": str(thread_id)}
    await dispatch.call(grant, "delete_thread", given)
    assert await owner.fetchval("SELECT count(*) FROM runs") == 0
