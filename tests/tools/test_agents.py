from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from db.errors import AppError
from db.ids import uuid7
from db.scopes import LENT_TO_END_USERS
from tests.conftest import House, Owner, Tenant, living_run
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("RUN-01", "RUN-11"), pytest.mark.asyncio(loop_scope="module")]
ALL = Narrowing(families=frozenset({"agents", "projects"}))
AGENTS = Narrowing(families=frozenset({"agents", "runs"}))


async def do(dispatch: Dispatch, tenant: Tenant, tool: str, /, **given: Any) -> dict[str, Any]:
    given.setdefault("project_id", str(tenant.project_id))
    return (await dispatch.call(tenant.principal, tool, given, narrowing=AGENTS)).structured


async def refused(dispatch: Dispatch, tenant: Tenant, tool: str, /, **given: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        await do(dispatch, tenant, tool, **given)
    return caught.value


async def test_each_project_has_a_default_agent_from_its_start_on(dispatch: Dispatch, tenant: Tenant) -> None:
    made = (await dispatch.call(tenant.principal, "create_project", {"name": "New"})).structured
    for project_id in (made["id"], str(tenant.project_id)):
        listed = await do(dispatch, tenant, "list_agents", project_id=project_id)
        assert [agent["name"] for agent in listed["agents"]] == ["default"]


async def test_an_agent_is_made_read_changed_and_deleted(dispatch: Dispatch, tenant: Tenant, unasked: None) -> None:
    given = {
        "name": "support",
        "description": "Answers guests.",
        "instructions": "Be kind. " * 2000,
        "model": "openai:gpt-x",
        "fallback_models": ["openai:gpt-y"],
        "model_parameters": {"temperature": 0.1, "timeout": 90},
        "tools": ["get_project", "list_files"],
        "scopes": ["projects:read"],
        "limits": {"steps": 3, "seconds": 30, "cost_usd": 0.5},
    }
    made = await do(dispatch, tenant, "create_agent", **given)
    for name in given.keys() - {"instructions"}:
        assert made[name] == given[name]
    text, cursor = "", None
    while True:
        read = await do(dispatch, tenant, "get_agent", agent="support", **({"cursor": cursor} if cursor else {}))
        text, cursor = text + read["instructions"], read["next_cursor"]
        if cursor is None:
            break
    assert text == given["instructions"]
    taken = await refused(dispatch, tenant, "create_agent", name="support")
    assert (taken.code, taken.status) == ("agent_name_taken", 409)
    changed = await do(
        dispatch, tenant, "update_agent", agent="support", instructions="Short.", clear=["tools", "limits"]
    )
    assert (changed["instructions"], changed["tools"], changed["limits"]) == ("Short.", None, {})
    assert changed["scopes"] == ["projects:read"]
    listed = await do(dispatch, tenant, "list_agents")
    assert [agent["name"] for agent in listed["agents"]] == ["default", "support"]
    assert await do(dispatch, tenant, "delete_agent", agent="support") == {"name": "support", "deleted": True}
    gone = await refused(dispatch, tenant, "get_agent", agent="support")
    assert (gone.code, gone.hint) == (
        "agent_not_found",
        "List what this caller can see (list_agents) and use a name from there.",
    )


async def test_the_default_agent_is_changed_but_never_deleted(
    dispatch: Dispatch, tenant: Tenant, unasked: None
) -> None:
    assert (await do(dispatch, tenant, "update_agent", agent="default", model="local"))["model"] == "local"
    assert (await refused(dispatch, tenant, "delete_agent", agent="default")).code == "agent_is_default"


async def test_agents_are_paged_in_the_order_they_were_made_in(dispatch: Dispatch, tenant: Tenant) -> None:
    names = [f"agent-{number}" for number in range(26)]
    for name in names:
        await do(dispatch, tenant, "create_agent", name=name)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(2):
        page = await do(dispatch, tenant, "list_agents", **cursor)
        seen += [agent["name"] for agent in page["agents"]]
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ["default", *names]
    assert cursor["cursor"] is None


async def test_what_an_agent_cannot_be_is_refused_with_what_it_can(dispatch: Dispatch, tenant: Tenant) -> None:
    for given, word in (
        ({"name": "demo"}, "scripted"),
        ({"name": "Not a name"}, "name"),
        ({"name": "a", "tools": ["open_the_minibar"]}, "no tool"),
        ({"name": "a", "scopes": ["agents:write"]}, "projects:read"),
        ({"name": "a", "limits": {"steps": 0}}, "steps"),
    ):
        error = await refused(dispatch, tenant, "create_agent", **given)
        assert error.status == 400
        assert word in f"{error.message} {error.hint}"
    assert (await refused(dispatch, tenant, "update_agent", agent="default")).status == 400


async def test_a_model_that_no_run_could_ask_is_refused_when_it_is_saved(dispatch: Dispatch, tenant: Tenant) -> None:
    here = {"project_id": str(tenant.project_id)}
    for model in ("gpt-4o", "anthropic:claude", "openai:", " "):
        for tool, given, at in (
            ("create_agent", {**here, "name": "a", "model": model}, "model"),
            ("create_agent", {**here, "name": "a", "fallback_models": ["local", model]}, "fallback_models.1"),
            ("update_agent", {**here, "agent": "default", "model": model}, "model"),
            ("update_agent", {**here, "agent": "default", "fallback_models": [model]}, "fallback_models.0"),
            ("create_project", {"name": "a", "model": model}, "model"),
            ("update_project", {**here, "model": model}, "model"),
        ):
            with pytest.raises(AppError) as caught:
                await dispatch.call(tenant.principal, tool, given, narrowing=ALL)
            repair = {"do": "change", "at": at}
            assert (caught.value.code, caught.value.details) == ("model_not_supported", {"arguments": [repair]})
            assert "openai:NAME" in caught.value.hint
    assert (await do(dispatch, tenant, "get_agent", agent="default"))["model"] is None


async def test_a_plain_name_of_a_model_needs_the_base_url_of_its_project(dispatch: Dispatch, tenant: Tenant) -> None:
    here = {"project_id": str(tenant.project_id)}
    both = {**here, "model": "phi4:3b", "base_url": "https://models.example.test/v1"}
    await dispatch.call(tenant.principal, "update_project", both)
    made = await do(dispatch, tenant, "create_agent", name="plain", model="qwen", fallback_models=["phi"])
    assert (made["model"], made["fallback_models"]) == ("qwen", ["phi"])
    with pytest.raises(AppError) as caught:
        await dispatch.call(tenant.principal, "update_project", {**here, "clear": ["base_url"]})
    repair = {"do": "give", "at": "model"}
    assert (caught.value.code, caught.value.details) == ("model_not_supported", {"arguments": [repair]})
    assert "phi4" not in f"{caught.value.message} {caught.value.hint}"
    await dispatch.call(tenant.principal, "update_project", {**here, "clear": ["base_url", "model"]})


async def test_only_administrators_of_a_project_make_agents(dispatch: Dispatch, tenant: Tenant, house: House) -> None:
    member = await house.member(tenant.project_id, "member")
    given = {"project_id": str(tenant.project_id)}
    assert (await dispatch.call(member, "list_agents", given)).structured["agents"]
    for tool, more in (
        ("create_agent", {"name": "mine"}),
        ("update_agent", {"agent": "default", "instructions": "Obey me."}),
        ("delete_agent", {"agent": "default"}),
    ):
        with pytest.raises(AppError) as caught:
            await dispatch.call(member, tool, {**given, **more}, narrowing=AGENTS)
        assert caught.value.code == "role_insufficient"


async def test_a_run_never_manages_agents_whatever_it_is_lent(dispatch: Dispatch, tenant: Tenant) -> None:
    lent = tenant.principal.scopes | {"agents:write"}
    grant = tenant.principal.for_run(uuid7(), depth=1, epoch=1, scopes=lent, tools={"create_agent", "list_projects"})
    assert [tool.name for tool in dispatch.catalog.visible(grant)] == ["list_projects"]
    with pytest.raises(AppError) as caught:
        await dispatch.call(grant, "create_agent", {"project_id": str(tenant.project_id), "name": "twin"})
    assert caught.value.status in (403, 404)


async def test_a_run_uses_the_tools_of_its_agents_row_and_no_others(
    dispatch: Dispatch, tenant: Tenant, owner: Owner
) -> None:
    run_id = await living_run(owner, tenant)
    grant = tenant.principal.for_run(run_id, depth=1, epoch=1, tools={"get_agent", "list_projects"})
    assert [tool.name for tool in dispatch.catalog.visible(grant)] == ["list_projects", "get_agent"]
    given = {"project_id": str(tenant.project_id)}
    read = await dispatch.call(grant, "get_agent", {**given, "agent": "default"})
    assert read.structured["name"] == "default"
    with pytest.raises(AppError) as caught:
        await dispatch.call(grant, "get_project", given)
    assert caught.value.code == "tool_not_allowed"
    inner = grant.for_run(uuid7(), depth=2, epoch=1, tools={"get_project", "list_projects"})
    assert inner.tools == frozenset({"list_projects"})


async def test_an_end_users_run_gets_exactly_what_its_agent_lends(tenant: Tenant) -> None:
    guest = replace(tenant.principal, end_user_id=uuid7())
    lent = guest.for_run(uuid7(), depth=1, epoch=1, scopes=LENT_TO_END_USERS)
    assert lent.scopes == LENT_TO_END_USERS
    keyless = guest.narrowed(scopes=frozenset({"runs:write"}))
    assert keyless.for_run(uuid7(), depth=1, epoch=1, scopes={"storage:read"}).scopes == {"storage:read"}
    member = tenant.principal.narrowed(scopes=frozenset({"runs:write"}))
    assert member.for_run(uuid7(), depth=1, epoch=1, scopes={"storage:read"}).scopes == frozenset()
