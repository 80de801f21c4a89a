"""What becomes of files by jobs: objects of deleted files go, what had its time goes, both sides are compared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
import pytest_asyncio

from db import files, job_queue
from db.database import Database
from db.ids import uuid7
from db.jobs import enqueue_for
from db.storekeeping import ARRIVED, DELETE, REMOVED
from server.jobs.catalog import JOBS
from server.jobs.worker import WorkerRules, working
from server.services import Services
from tests.conftest import Owner, Tenant, eventually
from tests.fakes.memory_store import MemoryStore
from tests.tools.desk import Desk
from tools.dispatch import Dispatch

DAY = timedelta(days=1)
pytestmark = pytest.mark.usefixtures("unasked")


@pytest.fixture
def desk(dispatch: Dispatch, tenant: Tenant, store: MemoryStore) -> Desk:
    return Desk(dispatch, tenant, store)


class Yard:
    """The house's worker, and how to wait for it."""

    def __init__(self, database: Database, owner: Owner) -> None:
        self._database = database
        self._owner = owner

    async def do(self, kind: str, project_id: UUID | None = None, **ids: UUID) -> None:
        """Add a job, and wait until it and all that it added are over."""
        async with self._database.ops() as ops:
            await enqueue_for(ops, project_id, kind, ids)
        await self.idle()

    async def idle(self) -> None:
        async def over() -> bool:
            async with self._database.ops() as ops:
                states = [job.state for job in await job_queue.page(ops, limit=1000)]
            assert "dead" not in states
            return not states

        await eventually(over)

    async def rows(self) -> dict[str, str]:
        """Status by path."""
        return {row["path"]: row["status"] for row in await self._owner.fetch("SELECT path, status FROM files")}


@pytest_asyncio.fixture
async def yard(database: Database, dispatch: Dispatch, store: MemoryStore, owner: Owner) -> AsyncIterator[Yard]:
    services = cast(Services, SimpleNamespace(database=database, dispatch=dispatch, store=store))
    jobs = [job for job in JOBS if job.kind != "clean_up"]
    async with working(services, WorkerRules(4, 4.0), jobs):
        yield Yard(database, owner)


@pytest.mark.promise("STO-01")
async def test_a_deleted_files_object_goes_and_then_its_row(desk: Desk, yard: Yard, owner: Owner) -> None:
    kept, gone = await desk.file("kept.txt"), await desk.file("gone.txt")

    await desk.call("delete_file", file_id=gone)
    await yard.idle()

    assert await yard.rows() == {"kept.txt": "ready"}
    assert list(desk.store.objects) == [desk.key(kept)]
    assert desk.store.sealed == {desk.key(gone)}
    assert await owner.fetchval("SELECT files FROM project_storage") == 1


@pytest.mark.promise("STO-01")
async def test_many_deleted_files_go_with_few_jobs(desk: Desk, yard: Yard, database: Database) -> None:
    made = [await desk.file(f"{number}.txt") for number in range(12)]

    await asyncio.gather(*(desk.call("delete_file", file_id=one) for one in made))
    await yard.idle()

    assert (desk.store.objects, await yard.rows()) == ({}, {})


@pytest.mark.promise("STO-01")
async def test_a_deletion_waits_for_a_store_that_is_away(
    desk: Desk, yard: Yard, database: Database, store: MemoryStore
) -> None:
    file_id = await desk.file("x.txt")
    store.away = True
    await desk.call("delete_file", file_id=file_id)

    async def waits() -> bool:
        async with database.ops() as ops:
            return [job.state for job in await job_queue.page(ops, limit=10)] == ["scheduled"]

    await eventually(waits)
    assert await yard.rows() == {"x.txt": "deleting"}
    store.away = False
    async with database.ops() as ops:
        await job_queue.retry(ops, jobs=[job.id for job in await job_queue.page(ops, limit=10)])
    await yard.idle()
    assert (store.objects, await yard.rows()) == ({}, {})


@pytest.mark.promise("STO-01")
async def test_uploads_nobody_confirmed_and_temporary_files_go_when_their_time_has_come(
    desk: Desk, yard: Yard, owner: Owner, store: MemoryStore
) -> None:
    await desk.file("lasting.txt")
    short = await desk.call("create_upload", path="temporary.txt", size=1, temporary=True)
    key = files.key(desk.tenant.project_id, UUID(short["id"]), temporary=True)
    store.send(key, b"x")
    await desk.call("confirm_upload", file_id=short["id"])
    await desk.call("create_upload", path="never.txt", size=1)
    big = await desk.call("create_upload", path="parts.bin", size=5 << 30)
    assert big["parts"]
    assert key in store.objects
    await yard.do("files_expire")
    assert len(await yard.rows()) == 4

    await owner.execute("UPDATE files SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL")
    await yard.do("files_expire")

    assert await yard.rows() == {"lasting.txt": "ready"}
    assert len(store.objects) == 1
    assert store.uploads == {}


@pytest.mark.promise("STO-01")
async def test_only_files_that_may_still_have_tickets_are_sealed(desk: Desk, yard: Yard, owner: Owner) -> None:
    old, young = await desk.file("old.txt"), await desk.file("young.txt")
    await owner.execute("UPDATE files SET created_at = now() - interval '26 hours' WHERE path = 'old.txt'")

    for one in (old, young):
        await desk.call("delete_file", file_id=one)
    await yard.idle()

    assert desk.store.sealed == {desk.key(young)}


@pytest.mark.promise("STO-02")
async def test_rows_and_objects_are_compared_both_ways(
    desk: Desk, yard: Yard, store: MemoryStore, stranger: Tenant
) -> None:
    project_id = desk.tenant.project_id
    there, lost, back = [await desk.file(name) for name in ("there.txt", "lost.txt", "back.txt")]
    pending = await desk.call("create_upload", path="pending.txt", size=1)
    held = store.objects.pop(desk.key(back))
    store.objects.pop(desk.key(lost))
    await yard.do("store_check")
    assert await yard.rows() == {
        "there.txt": "ready", "lost.txt": "lost", "back.txt": "lost", "pending.txt": "pending",
    }  # fmt: skip
    assert (await desk.call("get_file", file_id=lost))["ticket"] is None

    store.objects[desk.key(back)] = held
    strays = [files.key(project_id, uuid7(), temporary=temporary) for temporary in (False, True)]
    strays.append(f"registry/{project_id}/{'ab' * 32}")
    young = [files.key(project_id, uuid7(), temporary=False), f"registry/{project_id}/{'cd' * 32}"]
    of_nobody = [files.key(uuid7(), uuid7(), temporary=False), f"registry/{uuid7()}/{'ab' * 32}"]
    of_others = [f"files/{project_id}/notes", "files/readme/x", "other/x"]
    for key in (*strays, *of_nobody, *of_others):
        store.hold(key, b"x", age=2 * DAY)
    for key in young:
        store.hold(key, b"x", age=DAY / 2)
    store.hold(desk.key(pending["id"]), b"x", age=2 * DAY)
    await yard.do("store_check")

    assert await yard.rows() == {
        "there.txt": "ready", "lost.txt": "lost", "back.txt": "ready", "pending.txt": "pending",
    }  # fmt: skip
    assert set(store.objects) == {
        desk.key(there), desk.key(back), desk.key(pending["id"]), *young, *of_others
    }  # fmt: skip


@pytest.mark.promise("STO-02")
async def test_a_comparison_of_many_files_goes_in_pages(
    desk: Desk, yard: Yard, owner: Owner, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.jobs.files_check.BATCH", 7)
    project_id, user_id = desk.tenant.project_id, desk.tenant.user_id
    ids = sorted(uuid7() for _ in range(60))
    await owner.executemany(
        "INSERT INTO files (project_id, id, path, size, content_type, status, created_by, credential_id)"
        " VALUES ($1, $2, $2::uuid::text, 1, 'x/y', 'ready', $3, $3)",
        [(project_id, one, user_id) for one in ids],
    )
    for number, one in enumerate(ids):
        if number % 3:
            store.hold(desk.key(str(one)), b"x", age=2 * DAY)
    strays = [uuid7() for _ in range(20)]
    for one in strays:
        store.hold(desk.key(str(one)), b"x", age=2 * DAY)

    await yard.do("store_check")

    rows = await yard.rows()
    assert [rows[str(one)] for one in ids] == ["ready" if number % 3 else "lost" for number in range(60)]
    assert sorted(store.objects) == [desk.key(str(one)) for number, one in enumerate(ids) if number % 3]


@pytest.mark.promise("STO-02")
async def test_what_is_being_deleted_and_was_forgotten_is_found_again(
    desk: Desk, yard: Yard, owner: Owner, store: MemoryStore
) -> None:
    file_id = await desk.file("x.txt")
    await owner.execute("UPDATE files SET status = 'deleting'")

    await yard.do("store_check")

    assert (await yard.rows(), store.objects, store.sealed) == ({}, {}, {desk.key(file_id)})


@pytest.mark.promise("STO-02")
async def test_an_upload_that_the_store_reports_is_confirmed_if_it_is_what_was_announced(
    desk: Desk, yard: Yard, store: MemoryStore
) -> None:
    good, differs, taken, never = [
        (await desk.call("create_upload", path=path, size=3))["id"] for path in ("good", "differs", "taken", "never")
    ]
    desk.send(good, b"abc")
    desk.send(differs, b"abcd")
    desk.send(taken, b"abc")
    await desk.file("taken", b"other")

    for one in (good, good, differs, taken, never, str(uuid7())):
        await yard.do(ARRIVED, desk.tenant.project_id, file_id=UUID(one))

    assert (await desk.call("get_file", file_id=good))["status"] == "ready"
    for one in (differs, taken, never):
        assert (await desk.call("get_file", file_id=one))["status"] == "pending"


@pytest.mark.promise("STO-02")
async def test_an_object_that_the_store_reports_gone_is_lost_only_if_it_is(
    desk: Desk, yard: Yard, store: MemoryStore
) -> None:
    gone, there = await desk.file("gone.txt"), await desk.file("there.txt")
    store.objects.pop(desk.key(gone))

    for one in (gone, there, str(uuid7())):
        await yard.do(REMOVED, desk.tenant.project_id, file_id=UUID(one))

    assert await yard.rows() == {"gone.txt": "lost", "there.txt": "ready"}


@pytest.mark.promise("STO-02")
async def test_a_job_of_a_project_reaches_no_file_of_another(
    desk: Desk, yard: Yard, dispatch: Dispatch, stranger: Tenant, store: MemoryStore
) -> None:
    theirs = Desk(dispatch, stranger, store)
    file_id = await theirs.file("theirs.txt")
    pending = await theirs.call("create_upload", path="pending.txt", size=1)
    theirs.send(pending["id"], b"x")

    await yard.do(ARRIVED, desk.tenant.project_id, file_id=UUID(pending["id"]))
    await yard.do(REMOVED, desk.tenant.project_id, file_id=UUID(file_id))
    await yard.do(DELETE, desk.tenant.project_id)

    assert await yard.rows() == {"theirs.txt": "ready", "pending.txt": "pending"}
