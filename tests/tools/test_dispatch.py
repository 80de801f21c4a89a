from __future__ import annotations

import asyncio
from typing import Any

import pytest

from db.errors import AppError
from db.scopes import Scope
from tests.conftest import House, Owner, Tenant
from tools.catalog import CATALOG, Catalog
from tools.contract import Caller, tool
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.ports import Services

pytestmark = pytest.mark.promise("HOME-10")


async def test_a_repeated_key_gives_the_saved_answer_and_one_effect(
    dispatch: Dispatch, tenant: Tenant, owner: Owner
) -> None:
    async def create() -> dict[str, Any]:
        outcome = await dispatch.call(tenant.principal, "create_project", {"name": "once"}, idempotency_key="key")
        return outcome.structured

    answers = await asyncio.gather(*(create() for _ in range(10)))

    assert all(answer == answers[0] for answer in answers)
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'once'") == 1


async def test_a_key_used_for_other_arguments_is_a_conflict(dispatch: Dispatch, tenant: Tenant, owner: Owner) -> None:
    await dispatch.call(tenant.principal, "create_project", {"name": "first"}, idempotency_key="key")

    with pytest.raises(AppError) as caught:
        await dispatch.call(tenant.principal, "create_project", {"name": "second"}, idempotency_key="key")

    assert (caught.value.code, caught.value.status) == ("idempotency_key_reused", 409)
    assert await owner.fetchval("SELECT count(*) FROM projects WHERE name = 'second'") == 0


async def test_keys_of_two_callers_do_not_meet(dispatch: Dispatch, tenant: Tenant, stranger: Tenant) -> None:
    mine = await dispatch.call(tenant.principal, "create_project", {"name": "same"}, idempotency_key="key")
    theirs = await dispatch.call(stranger.principal, "create_project", {"name": "same"}, idempotency_key="key")

    assert mine.structured["id"] != theirs.structured["id"]


async def test_a_failed_write_leaves_its_key_free(dispatch: Dispatch, tenant: Tenant, house: House) -> None:
    arguments = {"project_id": str(tenant.project_id), "name": "x"}
    viewer = await house.member(tenant.project_id, "viewer")
    for _ in range(2):
        with pytest.raises(AppError) as caught:
            await dispatch.call(viewer, "update_project", arguments, idempotency_key="key")
        assert caught.value.code == "role_insufficient"


async def test_a_saved_answer_is_kept_from_who_has_left_the_project(
    dispatch: Dispatch, tenant: Tenant, house: House, owner: Owner
) -> None:
    admin = await house.member(tenant.project_id, "admin")
    arguments = {"project_id": str(tenant.project_id), "name": "x"}
    await dispatch.call(admin, "update_project", arguments, idempotency_key="key")
    await owner.execute("DELETE FROM project_members WHERE user_id = $1", admin.user_id)

    with pytest.raises(AppError) as caught:
        await dispatch.call(admin, "update_project", arguments, idempotency_key="key")

    assert caught.value.code == "project_not_found"


@pytest.mark.usefixtures("unasked")
async def test_a_deletion_can_be_repeated_with_its_key_even_by_a_bound_key(
    dispatch: Dispatch, tenant: Tenant, house: House
) -> None:
    bound = await house.principal(await house.key(tenant.user_id, project_id=tenant.project_id))

    for replayed in (False, True):
        outcome = await dispatch.call(
            bound, "delete_project", {"project_id": str(tenant.project_id)}, idempotency_key="key"
        )
        assert outcome.replayed == replayed
        assert outcome.structured["deleted"] is True


async def test_every_write_is_audited_and_no_read(dispatch: Dispatch, tenant: Tenant, owner: Owner) -> None:
    await dispatch.call(tenant.principal, "list_projects", {})
    created = await dispatch.call(tenant.principal, "create_project", {"name": "audited"})

    rows = await owner.fetch("SELECT action, target, user_id FROM audit WHERE action NOT LIKE 'key:%'")

    assert [(row["action"], row["target"]) for row in rows] == [("create_project", created.structured["id"])]
    assert rows[0]["user_id"] == tenant.user_id


async def test_a_caller_sees_only_the_tools_of_its_scopes(dispatch: Dispatch, house: House) -> None:
    reader = await house.tenant(scopes=["projects:read"])

    assert [listed.name for listed in CATALOG.visible(reader.principal)] == ["list_projects", "get_project"]
    with pytest.raises(AppError) as caught:
        await dispatch.call(reader.principal, "create_project", {"name": "x"})
    assert caught.value.code == "insufficient_scope"


async def test_read_only_beats_every_scope(dispatch: Dispatch, tenant: Tenant, house: House) -> None:
    narrowing = Narrowing(read_only=True)
    key = await house.principal(await house.key(tenant.user_id, read_only=True))

    for principal in (narrowing.of(tenant.principal), key):
        assert all(listed.annotations["readOnlyHint"] for listed in CATALOG.visible(principal))
        with pytest.raises(AppError) as caught:
            await dispatch.call(principal, "create_project", {"name": "x"})
        assert caught.value.code == "read_only"


async def test_a_bound_key_is_neither_widened_by_a_url_nor_shown_account_wide_tools(
    dispatch: Dispatch, tenant: Tenant, stranger: Tenant, house: House
) -> None:
    bound = await house.principal(await house.key(tenant.user_id, project_id=tenant.project_id))

    assert "create_project" not in [listed.name for listed in CATALOG.visible(bound)]
    with pytest.raises(AppError) as caught:
        await dispatch.call(bound, "create_project", {"name": "x"})
    assert caught.value.code == "project_bound"
    with pytest.raises(AppError) as caught:
        await dispatch.call(bound, "list_projects", {}, narrowing=Narrowing(project_id=stranger.project_id))
    assert caught.value.code == "project_not_found"


def test_every_tool_says_all_four_hints_and_describes_itself_and_each_parameter() -> None:
    for spec in CATALOG.tools:
        assert len(spec.description) < 2048
        assert not (spec.hints.read_only and spec.hints.destructive)
        for name, schema in spec.input_schema["properties"].items():
            assert "description" in schema or "$ref" in schema, (spec.name, name)


async def test_a_tool_that_hangs_ends_with_its_deadline(services: Services, tenant: Tenant) -> None:
    @tool(Scope.projects_read, read_only=True, destructive=False, idempotent=True, open_world=False)
    async def hang(call: Caller) -> dict[str, str]:
        """Never answers."""
        await asyncio.Event().wait()
        return {}

    with pytest.raises(AppError) as caught:
        await Dispatch(services, Catalog([hang]), deadline=0.01).call(tenant.principal, "hang", {})

    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("deadline_exceeded", 504, True)


def test_a_contradictory_tool_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="contradict"):

        @tool(Scope.projects_read, read_only=False, destructive=False, idempotent=True, open_world=False)
        async def write_with_a_read_scope(call: Caller) -> dict[str, str]:
            """Contradicts itself."""
            return {}

    with pytest.raises(TypeError, match="cannot be destructive"):

        @tool(Scope.projects_read, read_only=True, destructive=True, idempotent=True, open_world=False)
        async def destroy_by_reading(call: Caller) -> dict[str, str]:
            """Contradicts itself."""
            return {}


async def test_an_unknown_tool_is_named_with_what_to_do(dispatch: Dispatch, tenant: Tenant) -> None:
    with pytest.raises(AppError) as caught:
        await dispatch.call(tenant.principal, "make_coffee", {})

    assert caught.value.code == "unknown_tool"


@pytest.mark.promise("MCP-03")
async def test_a_url_chooses_families_and_an_unknown_one_is_refused_with_the_known(
    services: Services, tenant: Tenant
) -> None:
    tools = [spec for spec in CATALOG.tools if spec.family == "projects"]
    catalog = Catalog(tools, on_request=["projects"])
    chosen = frozenset({"projects"})

    assert catalog.visible(tenant.principal) == ()
    assert [listed.name for listed in catalog.visible(tenant.principal, chosen)] == [t.name for t in tools]
    with pytest.raises(AppError) as caught:
        catalog.visible(tenant.principal, frozenset({"pigeons"}))
    assert caught.value.hint == "Families are projects."
    with pytest.raises(AppError) as caught:
        await Dispatch(services, catalog).call(tenant.principal, "list_projects", {})
    assert caught.value.code == "tool_not_offered"
    listed = await Dispatch(services, catalog).call(
        tenant.principal, "list_projects", {}, narrowing=Narrowing(families=chosen)
    )
    assert listed.structured["projects"]


@pytest.mark.promise("MCP-12")
async def test_a_renamed_tool_still_answers_to_its_former_name_and_is_listed_once(
    services: Services, tenant: Tenant
) -> None:
    @tool(
        Scope.projects_read,
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
        aliases=("old_name",),
    )
    async def new_name(call: Caller) -> dict[str, str]:
        """Renamed."""
        return {"answer": "yes"}

    dispatch = Dispatch(services, Catalog([new_name]))

    assert (await dispatch.call(tenant.principal, "old_name", {})).structured == {"answer": "yes"}
    assert [listed.name for listed in dispatch.catalog.visible(tenant.principal)] == ["new_name"]
