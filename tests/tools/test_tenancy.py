"""Generated from the registry: every tool and resource, with another tenant's id, a deleted one and a random one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import pytest

from db.errors import AppError
from db.ids import uuid7
from tests.conftest import House, Owner, Tenant
from tools.catalog import CATALOG
from tools.contract import ResourceSpec, ToolSpec
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services

pytestmark = pytest.mark.promise("HOME-31")

SAMPLES: dict[str, Any] = {"name": "taken over", "string": "x", "integer": 1, "boolean": True}
TENANT_TABLES = ("projects", "project_members", "end_users", "threads", "runs", "messages", "run_events", "credentials")
WITH_PROJECT = [spec for spec in CATALOG.tools if spec.in_project]


def arguments_for(spec: ToolSpec, project_id: UUID) -> dict[str, Any]:
    """Valid arguments: every parameter with a plain type is given, so that nothing but the id can be at fault."""
    given: dict[str, Any] = {"project_id": str(project_id)}
    for name, schema in spec.input_schema["properties"].items():
        required = name in spec.input_schema.get("required", [])
        if name not in given and (required or name in SAMPLES):
            given[name] = SAMPLES.get(name, SAMPLES[schema["type"]])
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
) -> None:
    dispatch = Dispatch(services, verify_project=verify_project)
    ids = await foreign_ids(house, dispatch, stranger, tenant)
    principal = stranger.principal
    if bound:
        principal = await house.principal(await house.key(stranger.user_id, project_id=stranger.project_id))
    before = await rows_of(owner, tenant)

    answers = [await answer(dispatch.call(principal, spec.name, arguments_for(spec, project_id))) for project_id in ids]
    keyed = [
        await answer(
            dispatch.call(principal, spec.name, arguments_for(spec, project_id), idempotency_key=f"key {project_id}")
        )
        for project_id in ids
    ]

    assert answers[0] == answers[1] == answers[2] == keyed[0] == keyed[1] == keyed[2]
    assert answers[0][0] == "project_not_found"
    assert await rows_of(owner, tenant) == before


@pytest.mark.parametrize("verify_project", [True, False], ids=["python checks", "database alone"])
@pytest.mark.parametrize("spec", CATALOG.resources, ids=lambda spec: spec.name)
@pytest.mark.usefixtures("unasked")
async def test_a_resource_answers_the_same_to_a_foreign_a_deleted_and_a_random_id(
    services: Services, house: House, tenant: Tenant, stranger: Tenant, spec: ResourceSpec, verify_project: bool
) -> None:
    dispatch = Dispatch(services, verify_project=verify_project)
    ids = await foreign_ids(house, dispatch, stranger, tenant)

    answers = [await answer(dispatch.read_resource(stranger.principal, spec.uri(project_id))) for project_id in ids]

    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == "resource_not_found"


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


def test_every_parameter_that_names_a_row_is_covered_here() -> None:
    for spec in CATALOG.tools:
        ids = [name for name in spec.input_schema["properties"] if name == "id" or name.endswith("_id")]
        assert ids in ([], ["project_id"]), f"{spec.name}: teach this test the ids {ids}"
