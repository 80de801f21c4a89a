"""Generated from the registry: every tool and resource, with another tenant's id, a deleted one and a random one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from db.errors import AppError
from db.ids import uuid7
from tests.conftest import House, Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tools.catalog import CATALOG
from tools.contract import ToolSpec
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services
from tools.resources import ResourceSpec

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("HOME-31"), pytest.mark.asyncio(loop_scope="module")]

SAMPLES: dict[str, Any] = {"name": "taken-over", "description": "x", "string": "x", "integer": 1, "boolean": True}
SAMPLES |= {"to": ["ada@example.org"], "text": "x", "subject": "x", "email": "ada@example.org"}
SAMPLES |= {"monthly_messages": 100}
SAMPLES |= {"item": {"name": "theirs", "type": "registry:ui"}, "version": "1.0.0"}
TENANT_TABLES = (
    *("projects", "agents", "project_members", "end_users", "threads", "runs", "messages", "run_events", "credentials"),
    *("provider_keys", "files", "project_storage", "components", "component_versions", "component_blobs"),
    *("emails", "email_events", "contacts", "suppressions", "email_templates"),
    *("registry_sources", "registry_syncs", "invitations"),
)
FAMILY_IDS = {
    "file_id": "files",
    "email_id": "emails",
    "source_id": "registry_sources",
    "sync_id": "registry_syncs",
    "invitation_id": "invitations",
    "run_id": "runs",
    "thread_id": "threads",
    "end_user_id": "end_users",
}
"""Parameters that name a row, and the table it is in."""
PEOPLE = {"member_id"}
"""Parameters that name an account: the same is asked of them in ``test_members.py``."""


EVERY_FAMILY = Narrowing(families=CATALOG.families)
WITH_PROJECT = [spec for spec in CATALOG.tools if spec.in_project]


def arguments_for(spec: ToolSpec, project_id: UUID, row_id: UUID | None = None) -> dict[str, Any]:
    """Valid arguments: every parameter with a plain type is given, so that nothing but the id can be at fault."""
    given: dict[str, Any] = {"project_id": str(project_id)}
    for name, schema in spec.input_schema["properties"].items():
        required = name in spec.input_schema.get("required", [])
        if name in FAMILY_IDS or name in PEOPLE:
            given[name] = str(row_id or uuid7())
        elif name not in given and (required or name in SAMPLES):
            given[name] = SAMPLES[name] if name in SAMPLES else schema.get("enum", [SAMPLES.get(schema["type"])])[0]
    return given


async def answer(call: Awaitable[Any]) -> tuple[Any, ...]:
    try:
        return ("answered", await call)
    except AppError as error:
        return (error.code, error.status, error.message, error.hint, error.retryable)


async def rows_of(owner: Owner, tenant: Tenant) -> list[Any]:
    found = []
    for table in TENANT_TABLES:
        column = "id" if table == "projects" else "project_id"
        query = f"SELECT * FROM {table} WHERE {column} = $1 ORDER BY 1, 2"
        found.append([tuple(row) for row in await owner.fetch(query, tenant.project_id)])
    return found


async def made_file(dispatch: Dispatch, store: MemoryStore, tenant: Tenant, path: str = "theirs.txt") -> UUID:
    """A ready file of the tenant."""
    given = {"project_id": str(tenant.project_id)}
    made = await dispatch.call(tenant.principal, "create_upload", {**given, "path": path, "size": 1})
    store.send(f"files/{tenant.project_id}/{made.structured['id']}", b"x")
    await dispatch.call(tenant.principal, "confirm_upload", {**given, "file_id": made.structured["id"]})
    return UUID(made.structured["id"])


async def made_email(dispatch: Dispatch, store: MemoryStore, tenant: Tenant) -> UUID:
    """A mail of the tenant that waits for its time."""
    given = {"project_id": str(tenant.project_id), "to": ["ada@example.org"], "subject": "x", "text": "x"}
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = await dispatch.call(tenant.principal, "send_email", {**given, "at": at})
    return UUID(made.structured["id"])


async def made_source(dispatch: Dispatch, _store: MemoryStore, tenant: Tenant) -> UUID:
    """A source of the tenant's registry."""
    given = {"project_id": str(tenant.project_id), "url": "https://registry.example/r/registry.json"}
    made = await dispatch.call(tenant.principal, "create_registry_source", given, narrowing=EVERY_FAMILY)
    return UUID(made.structured["id"])


async def made_sync(dispatch: Dispatch, store: MemoryStore, tenant: Tenant) -> UUID:
    """A sync of a source of the tenant's, that waits."""
    source_id = await made_source(dispatch, store, tenant)
    given = {"project_id": str(tenant.project_id), "source_id": str(source_id)}
    made = await dispatch.call(tenant.principal, "sync_registry_source", given, narrowing=EVERY_FAMILY)
    return UUID(made.structured["id"])


async def made_invitation(dispatch: Dispatch, _store: MemoryStore, tenant: Tenant) -> UUID:
    """An invitation of the tenant's that waits for an answer."""
    given = {"project_id": str(tenant.project_id), "email": "ada@example.org"}
    made = await dispatch.call(tenant.principal, "invite_member", given, narrowing=EVERY_FAMILY)
    return UUID(made.structured["id"])


async def made_run(dispatch: Dispatch, store: MemoryStore, tenant: Tenant) -> UUID:
    """A run of the tenant that waits for a process."""
    given = {"project_id": str(tenant.project_id), "message": "Hello"}
    return UUID((await dispatch.call(tenant.principal, "start_run", given)).structured["id"])


async def made_thread(dispatch: Dispatch, store: MemoryStore, tenant: Tenant) -> UUID:
    given = {"project_id": str(tenant.project_id), "message": "Hello"}
    return UUID((await dispatch.call(tenant.principal, "start_run", given)).structured["thread_id"])


async def made_end_user(dispatch: Dispatch, store: MemoryStore, tenant: Tenant) -> UUID:
    """An end user of the tenant, with nothing of theirs."""
    async with dispatch.services.database.transaction(tenant.principal, tenant.project_id) as connection:
        made = uuid7()
        await connection.execute(
            "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, 'ada')", tenant.project_id, made
        )
    return made


MAKERS: dict[str, Callable[[Dispatch, MemoryStore, Tenant], Awaitable[UUID]]] = {
    "files": made_file,
    "emails": made_email,
    "registry_sources": made_source,
    "registry_syncs": made_sync,
    "invitations": made_invitation,
    "runs": made_run,
    "threads": made_thread,
    "end_users": made_end_user,
}
DELETIONS = {
    "runs": "DELETE FROM runs WHERE id = $1",
    "threads": "DELETE FROM threads WHERE id = $1",
    "end_users": "DELETE FROM end_users WHERE id = $1",
    "files": "UPDATE files SET status = 'deleting' WHERE id = $1",
    "emails": "DELETE FROM emails WHERE id = $1",
    "registry_sources": "DELETE FROM registry_sources WHERE id = $1",
    "registry_syncs": "DELETE FROM registry_syncs WHERE id = $1",
    "invitations": "DELETE FROM invitations WHERE id = $1",
}


async def foreign_ids(house: House, dispatch: Dispatch, stranger: Tenant, tenant: Tenant) -> list[UUID]:
    deleted = await dispatch.call(stranger.principal, "create_project", {"name": "gone"})
    await dispatch.call(stranger.principal, "delete_project", {"project_id": deleted.structured["id"]})
    return [tenant.project_id, UUID(deleted.structured["id"]), uuid7()]


@pytest.mark.parametrize("verify_project", [True, False], ids=["python checks", "database alone"])
@pytest.mark.parametrize("bound", [False, True], ids=["account key", "bound key"])
@pytest.mark.parametrize("spec", WITH_PROJECT, ids=lambda spec: spec.name)
@pytest.mark.usefixtures("unasked")
async def test_a_tool_answers_the_same_to_a_foreign_a_deleted_and_a_random_id(
    services: Services,
    house: House,
    owner: Owner,
    tenant: Tenant,
    stranger: Tenant,
    spec: ToolSpec,
    bound: bool,
    verify_project: bool,
    store: MemoryStore,
) -> None:
    dispatch = Dispatch(services, verify_project=verify_project)
    ids = await foreign_ids(house, dispatch, stranger, tenant)
    principal = stranger.principal
    if bound:
        principal = await house.principal(await house.key(stranger.user_id, project_id=stranger.project_id))
    theirs = await made_file(Dispatch(services), store, tenant)
    before = await rows_of(owner, tenant)

    def call(project_id: UUID, row_id: UUID | None = None, key: str | None = None) -> Awaitable[Any]:
        arguments = arguments_for(spec, project_id, row_id)
        return dispatch.call(principal, spec.name, arguments, narrowing=EVERY_FAMILY, idempotency_key=key)

    answers = [await answer(call(project_id)) for project_id in ids]
    keyed = [await answer(call(project_id, theirs, f"key {project_id}")) for project_id in ids]

    assert answers[0] == answers[1] == answers[2] == keyed[0] == keyed[1] == keyed[2]
    assert answers[0][0] == "project_not_found"
    assert await rows_of(owner, tenant) == before


@pytest.mark.parametrize("verify_project", [True, False], ids=["python checks", "database alone"])
@pytest.mark.parametrize("spec", CATALOG.resources, ids=lambda spec: spec.name)
@pytest.mark.usefixtures("unasked")
async def test_a_resource_answers_the_same_to_a_foreign_a_deleted_and_a_random_id(
    services: Services,
    house: House,
    store: MemoryStore,
    tenant: Tenant,
    stranger: Tenant,
    spec: ResourceSpec,
    verify_project: bool,
) -> None:
    dispatch = Dispatch(services, verify_project=verify_project)
    theirs = {"file_id": await made_file(dispatch, store, tenant), "path": "theirs.txt"}
    theirs["email_id"] = await made_email(dispatch, store, tenant)
    theirs |= {"name": "card", "version": "1.0.0", "file": "ui/card.tsx"}
    file = {"path": theirs["file"], "type": "registry:ui", "content": "x"}
    item = {"name": theirs["name"], "type": "registry:ui", "files": [file]}
    await dispatch.call(tenant.principal, "publish_component", {"project_id": str(tenant.project_id), "item": item})
    further = {name: theirs[name] for name in spec.variables if name != "project_id"}
    ids = await foreign_ids(house, dispatch, stranger, tenant)
    uris = [spec.uri(project_id, **further) for project_id in (*ids, stranger.project_id if further else ids[0])]

    answers = [await answer(dispatch.read_resource(stranger.principal, uri)) for uri in uris]

    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert answers[0][0] == "resource_not_found"
    assert (await answer(dispatch.read_resource(tenant.principal, uris[0])))[0] == "answered"


@pytest.mark.usefixtures("unasked")
async def test_a_url_narrowed_to_a_foreign_project_shows_nothing_of_it(
    dispatch: Dispatch, house: House, tenant: Tenant, stranger: Tenant
) -> None:
    for project_id in await foreign_ids(house, dispatch, stranger, tenant):
        narrowing = Narrowing(project_id=project_id)
        listed = await dispatch.call(stranger.principal, "list_projects", {}, narrowing=narrowing)
        assert listed.structured["projects"] == []
        read = await answer(dispatch.call(stranger.principal, "get_project", {}, narrowing=narrowing))
        assert read[0] == "project_not_found"


@pytest.mark.parametrize("verify_project", [True, False], ids=["python checks", "database alone"])
@pytest.mark.parametrize(
    ("spec", "name"),
    [(spec, name) for spec in WITH_PROJECT for name in FAMILY_IDS if name in spec.input_model.model_fields],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.usefixtures("unasked")
async def test_a_tool_answers_the_same_to_a_foreign_row_a_deleted_and_a_random_one_in_its_own_project(
    services: Services,
    owner: Owner,
    tenant: Tenant,
    stranger: Tenant,
    store: MemoryStore,
    spec: ToolSpec,
    name: str,
    verify_project: bool,
) -> None:
    dispatch = Dispatch(services, verify_project=verify_project)
    make = MAKERS[FAMILY_IDS[name]]
    theirs, deleted = await make(dispatch, store, tenant), await make(dispatch, store, stranger)
    await owner.execute(DELETIONS[FAMILY_IDS[name]], deleted)
    before = await rows_of(owner, tenant)

    answers = [
        await answer(
            dispatch.call(
                *(stranger.principal, spec.name, arguments_for(spec, stranger.project_id, row_id)),
                narrowing=EVERY_FAMILY,
            )
        )
        for row_id in (theirs, deleted, uuid7())
    ]

    assert answers[0] == answers[1] == answers[2]
    assert answers[0][:2] == (f"{name.removesuffix('_id')}_not_found", 404)
    assert await rows_of(owner, tenant) == before


async def test_every_parameter_that_names_a_row_is_covered_here() -> None:
    for spec in CATALOG.tools:
        ids = [name for name in spec.input_schema["properties"] if name == "id" or name.endswith("_id")]
        assert set(ids) <= {"project_id", *FAMILY_IDS, *PEOPLE}, f"{spec.name}: teach this test the ids {ids}"
