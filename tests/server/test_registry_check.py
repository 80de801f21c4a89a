"""Contents that no version has are removed after a day, and what the store has lost is not given out as nothing."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from db import components
from db.database import Database
from db.jobs import enqueue_for
from server.jobs.catalog import JOBS
from server.jobs.registry_check import CHECK
from server.jobs.worker import WorkerRules, working
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.memory_store import MemoryStore
from tests.tools.shelf import Shelf, shelf

if TYPE_CHECKING:
    from server.services import Services as HouseServices

__all__ = ["shelf"]
pytestmark = pytest.mark.promise("REG-01")


async def test_contents_without_a_version_go_after_a_day_and_others_stay(
    database: Database, tenant: Tenant, shelf: Shelf, store: MemoryStore, owner: Owner
) -> None:
    def key(data: bytes) -> str:
        return components.blob_key(tenant.project_id, hashlib.sha256(data).digest())

    await shelf.publish(code="kept")
    store.hold(key(b"kept"), b"kept", age=timedelta(days=9))
    store.hold(key(b"old"), b"old", age=timedelta(days=2))
    store.hold(key(b"young"), b"young", age=timedelta(hours=2))
    house = cast("HouseServices", SimpleNamespace(database=database, dispatch=shelf.dispatch, store=store))
    async with working(house, WorkerRules(4, 5.0), [job for job in JOBS if job.kind == CHECK]):
        async with database.ops() as connection:
            await enqueue_for(connection, tenant.project_id, CHECK, {})

        async def over() -> bool:
            waiting = "SELECT count(*) FROM ops.pgqueuer WHERE status IN ('queued', 'picked')"
            return bool(await owner.fetchval(waiting) == 0)

        await eventually(over, 30)
    assert set(store.objects) == {key(b"kept"), key(b"young")}


async def test_a_file_that_the_store_has_lost_is_an_error_and_not_an_empty_file(
    shelf: Shelf, store: MemoryStore
) -> None:
    await shelf.publish(code="kept")
    [key] = store.objects
    store.hold(key, b"")
    error = await shelf.refused("get_component", name="card", file="ui/card.tsx")
    assert (error.code, error.status) == ("content_lost", 503)
