"""Erasing one end user, and naming threads: against an engine and a worker of the same process."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
import pytest_asyncio

from db import job_queue
from db.errors import AppError
from db.ids import uuid7
from server.jobs.catalog import JOBS
from server.jobs.thread_names import LONGEST, shortened
from server.jobs.worker import WorkerRules, working
from server.services import Services as HouseServices
from tests.agents.conftest import house_open, model
from tests.agents.inn import Inn, body, run, user
from tests.conftest import House, Owner, Tenant, eventually
from tests.fakes.memory_store import MemoryStore
from tests.fakes.openai_server import ScriptedModel
from tests.fakes.script import Hang, ToolCall, Turn
from tools.approval import ApprovalRequiredError
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services

__all__ = ["house_open", "model"]
FAMILIES = Narrowing(families=frozenset({"end_users", "files", "runs", "threads", "projects"}))
WORD = "marmalade"
"""What the end user says, writes and is called, and nobody else."""


@pytest_asyncio.fixture
async def dispatch(house_open: Inn, store: MemoryStore) -> Dispatch:
    await house_open.engine.warm()
    return Dispatch(Services(house_open.database, house_open.engine, store=store))


async def do(dispatch: Dispatch, who: Any, tool: str, /, **given: Any) -> dict[str, Any]:
    return (await dispatch.call(who, tool, given, narrowing=FAMILIES)).structured


async def idle(dispatch: Dispatch, store: MemoryStore) -> None:
    """Let a worker do what there is to do."""
    database = dispatch.services.database
    services = cast(HouseServices, SimpleNamespace(database=database, dispatch=dispatch, store=store))

    async def over() -> bool:
        async with database.ops() as ops:
            states = [job.state for job in await job_queue.page(ops, limit=100) if job.kind != "deliver_house_mail"]
        assert "dead" not in states
        return not states

    kinds = [job for job in JOBS if job.kind in ("name_threads", "files_delete", "objects_erase")]
    async with working(services, WorkerRules(4, 4.0), kinds):
        await eventually(over)


async def person(owner: Owner, tenant: Tenant, name: str) -> UUID:
    made = uuid7()
    await owner.execute(
        "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, $3)", tenant.project_id, made, name
    )
    return made


async def upload(dispatch: Dispatch, store: MemoryStore, who: Any, tenant: Tenant, path: str) -> str:
    given = {"project_id": str(tenant.project_id)}
    made = await do(dispatch, who, "create_upload", **given, path=path, size=1)
    key = f"files/{tenant.project_id}/{made['id']}"
    store.send(key, b"x")
    await do(dispatch, who, "confirm_upload", **given, file_id=made["id"])
    return key


async def tells(owner: Owner, word: str) -> set[str]:
    """The tables with a row that holds ``word``, as text, JSON or bytes."""
    tables = await owner.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    found = set()
    for table in (row["name"] for row in tables):
        rows = await owner.fetch(f"SELECT to_jsonb(t)::text AS said FROM {table} t")
        if any(word in row["said"] or word.encode().hex() in row["said"] for row in rows):
            found.add(table)
    return found


@pytest.mark.promise("RUN-11")
async def test_an_end_user_is_erased_everywhere_and_nobody_else(
    dispatch: Dispatch,
    house_open: Inn,
    tenant: Tenant,
    house: House,
    model: ScriptedModel,
    owner: Owner,
    store: MemoryStore,
    unasked: None,
) -> None:
    ada, bob = [await person(owner, tenant, name) for name in (WORD, "bob")]
    await owner.execute("UPDATE agents SET scopes = '{projects:write,storage:read,storage:write}'")
    for who, word in ((ada, WORD), (bob, "toast")):
        caller = replace(tenant.principal, end_user_id=who)
        await upload(dispatch, store, caller, tenant, f"{word}.txt")
        writes = {"project_id": str(tenant.project_id), "path": f"by {word}.txt", "size": 1}
        model.script(Turn(f"So, {word}: ", ToolCall("create_upload", writes)), Turn("Done."))
        await answered(house_open, caller, tenant, word)
        await owner.execute(
            "INSERT INTO approvals (id, credential_id, user_id, end_user_id, through_run, project_id, tool, target,"
            " arguments_digest, arguments, preview) VALUES ($1, $2, $3, $4, true, $5, 'x', '', '', $6, $6)",
            *(uuid7(), tenant.principal.credential_id, tenant.user_id, who, tenant.project_id),
            json.dumps({"said": word}),
        )
    model.script(Turn("Still ", Hang()))
    handle = await house_open.engine.start(
        replace(tenant.principal, end_user_id=ada),
        json.dumps(body(user(f"More {WORD}"))).encode(),
        project_id=tenant.project_id,
    )
    await model.requested(len(model.requests))
    assert await tells(owner, WORD) > {"end_users", "threads", "messages", "run_events", "runs", "files", "approvals"}
    theirs = [row["id"] for row in await owner.fetch("SELECT id FROM runs WHERE end_user_id = $1", ada)]
    assert len(theirs) == 2
    saved = "SELECT count(*) FROM idempotency WHERE split_part(key, ':', 1)::uuid = ANY ($1::uuid[])"
    assert await owner.fetchval(saved, theirs) == 1

    given = {"project_id": str(tenant.project_id)}
    listed = await do(dispatch, tenant.principal, "list_end_users", **given)
    assert [one["external_id"] for one in listed["end_users"]] == ["bob", WORD]
    gone = await do(dispatch, tenant.principal, "delete_end_user", **given, end_user_id=str(ada))
    assert gone == {"id": str(ada), "deleted": True}
    while not handle.tail.over:
        await handle.tail.next(5)
    await idle(dispatch, store)

    assert await tells(owner, WORD) == set()
    assert await tells(owner, str(ada)) <= {"audit"}
    assert await owner.fetchval(saved, theirs) == 0
    assert len(await tells(owner, "toast")) > 5
    assert len(store.objects) == 1
    listed = await do(dispatch, tenant.principal, "list_end_users", **given)
    assert [one["external_id"] for one in listed["end_users"]] == ["bob"]
    assert await owner.fetchval("SELECT count(*) FROM runs WHERE status = 'running'") == 0


@pytest.mark.promise("RUN-11")
async def test_erasing_asks_a_person_first_and_is_for_administrators(
    dispatch: Dispatch, tenant: Tenant, house: House, owner: Owner
) -> None:
    ada = await person(owner, tenant, "ada")
    given = {"project_id": str(tenant.project_id), "end_user_id": str(ada)}
    with pytest.raises(ApprovalRequiredError, match=str(ada)):
        await do(dispatch, tenant.principal, "delete_end_user", **given)
    member = await house.member(tenant.project_id, "member")
    with pytest.raises(AppError) as refused:
        await do(dispatch, member, "delete_end_user", **given)
    assert refused.value.code == "role_insufficient"
    assert await owner.fetchval("SELECT count(*) FROM end_users") == 1


@pytest.mark.promise("RUN-11")
async def test_deleting_a_project_erases_its_runs_everywhere(
    dispatch: Dispatch,
    house_open: Inn,
    tenant: Tenant,
    stranger: Tenant,
    model: ScriptedModel,
    owner: Owner,
    store: MemoryStore,
    unasked: None,
) -> None:
    theirs = await upload(dispatch, store, stranger.principal, stranger, "theirs.txt")
    await upload(dispatch, store, tenant.principal, tenant, f"{WORD}.txt")
    model.script(Turn(f"So, {WORD}: ", ToolCall("list_projects", {})), Turn("Done."))
    await run(house_open, tenant.token, body(user(WORD), thread="t"))
    assert await tells(owner, WORD) > {"messages", "run_events", "runs", "files"}
    await do(dispatch, tenant.principal, "delete_project", project_id=str(tenant.project_id))
    assert await tells(owner, WORD) == set()
    await idle(dispatch, store)
    assert set(store.objects) == {theirs}


@pytest.mark.promise("RUN-01")
async def test_a_thread_is_named_by_a_job_after_what_was_said_first_and_never_renamed(
    dispatch: Dispatch, house_open: Inn, tenant: Tenant, model: ScriptedModel, owner: Owner, store: MemoryStore
) -> None:
    picture = {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}}
    parts = [picture, {"type": "text", "text": "What is **this**? I wonder."}]
    trip = user("Plan a trip to [Rome](https://x.example), please. Soon!")
    asked = {"one": trip, "two": {**user(""), "content": parts}, "four": {**user(""), "content": [picture]}}
    for thread, message in asked.items():
        await run(house_open, tenant.token, body(message, thread=thread))
    await owner.execute(
        "INSERT INTO threads (project_id, id, external_id, name) VALUES ($1, $2, 'three', 'Mine')",
        *(tenant.project_id, uuid7()),
    )
    await run(house_open, tenant.token, body(user("Another"), thread="three"))
    await idle(dispatch, store)
    await run(house_open, tenant.token, body(user("Something else"), thread="one"))
    await idle(dispatch, store)
    listed = await do(dispatch, tenant.principal, "list_threads", project_id=str(tenant.project_id))
    assert {one["client_id"]: one["name"] for one in listed["threads"]} == {
        "one": "Plan a trip to Rome, please",
        "two": "What is this?",
        "three": "Mine",
        "four": "Image",
    }


@pytest.mark.promise("RUN-01")
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("\n\n# A heading\nand more", "A heading"),
        ("word " * 40, "word word word word word word word word word word word…"),
        ("x" * 100, "x" * 59 + "…"),
        ("1. First. Second", "1"),
        ("   \n\t", ""),
        ("「東京」はどこ。教えて", "「東京」はどこ。教えて"),
    ],
)
def test_a_name_is_one_short_line(said: str, name: str) -> None:
    assert shortened(said) == name
    assert len(name) <= LONGEST


async def answered(house: Inn, who: Any, tenant: Tenant, said: str) -> None:
    asked = json.dumps(body(user(said), thread=f"about {said}")).encode()
    handle = await house.engine.start(who, asked, project_id=tenant.project_id)
    while not handle.tail.over:
        await handle.tail.next(5)
