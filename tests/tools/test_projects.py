from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from db.errors import AppError
from db.ids import uuid7
from server.integrations.addresses import Addresses
from server.integrations.guarded_http import Outgoing
from tests.conftest import House, Owner, Tenant
from tests.one_database import authenticator, database, house, owner, stranger, tenant, unasked, urls
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing
from tools.outcome import Outcome
from tools.ports import Services

__all__ = ["authenticator", "database", "house", "owner", "stranger", "tenant", "unasked", "urls"]
pytestmark = [pytest.mark.promise("HOME-10"), pytest.mark.asyncio(loop_scope="module")]


async def refused(dispatch: Dispatch, tenant: Tenant, tool: str, /, **arguments: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        await dispatch.call(tenant.principal, tool, arguments)
    return caught.value


async def test_a_created_project_is_owned_by_its_creator_and_read_back_whole(
    dispatch: Dispatch, tenant: Tenant
) -> None:
    created = await dispatch.call(tenant.principal, "create_project", {"name": "Web shop", "instructions": "Be brief."})

    read = await dispatch.call(tenant.principal, "get_project", {"project_id": created.structured["id"]})
    assert read.structured == created.structured
    assert read.structured["name"] == "Web shop"
    listed = await dispatch.call(tenant.principal, "list_projects", {})
    assert listed.structured["projects"][0] == {
        "id": created.structured["id"],
        "name": "Web shop",
        "role": "owner",
        "created_at": created.structured["created_at"],
    }


async def test_projects_are_paged_newest_first_without_gap_or_repeat(dispatch: Dispatch, tenant: Tenant) -> None:
    made = [
        (await dispatch.call(tenant.principal, "create_project", {"name": f"p{n}"})).structured["id"] for n in range(7)
    ]
    expected = [*reversed(made), str(tenant.project_id)]

    seen: list[str] = []
    arguments: dict[str, Any] = {"limit": 3}
    for _ in range(3):
        page = (await dispatch.call(tenant.principal, "list_projects", arguments)).structured
        seen += [project["id"] for project in page["projects"]]
        arguments["cursor"] = page["next_cursor"]

    assert seen == expected
    assert arguments["cursor"] is None


async def test_a_cursor_from_elsewhere_is_refused_with_what_to_do(dispatch: Dispatch, tenant: Tenant) -> None:
    for cursor in ("", "nonsense", "a" * 24, "////"):
        error = await refused(dispatch, tenant, "list_projects", cursor=cursor)
        assert error.code == "invalid_cursor"
        assert error.hint == "Leave cursor out to start at the first page."


async def test_every_setting_can_be_changed_and_cleared(dispatch: Dispatch, tenant: Tenant) -> None:
    settings = {
        "name": "Renamed",
        "instructions": "Answer in French.",
        "model": "openai:gpt-5",
        "base_url": "https://models.example.test/v1",
        "max_input_tokens": 8000,
        "tool_call_limit": 7,
        "allow_prompt_override": True,
        "model_parameters": {"temperature": 0.2, "seed": 1, "timeout": 30},
    }

    changed = await dispatch.call(
        tenant.principal, "update_project", {"project_id": str(tenant.project_id), **settings}
    )
    assert {name: changed.structured[name] for name in settings} == settings
    cleared = await dispatch.call(
        tenant.principal,
        "update_project",
        {
            "project_id": str(tenant.project_id),
            "clear": ["model", "base_url", "max_input_tokens", "model_parameters"],
        },
    )
    assert cleared.structured["model"] is None
    assert cleared.structured["base_url"] is None
    assert cleared.structured["max_input_tokens"] is None
    assert cleared.structured["model_parameters"] == {}
    assert cleared.structured["name"] == "Renamed"


@pytest.mark.promise("GND-01")
@pytest.mark.parametrize("tool", ["create_project", "update_project"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:7f00:1]", "localhost", "169.254.169.254"]
)
async def test_a_base_url_inside_is_refused_at_once(services: Services, tenant: Tenant, tool: str, host: str) -> None:
    dispatch = Dispatch(replace(services, outside=Outgoing(Addresses())))
    arguments = {"name": "x"} if tool == "create_project" else {"project_id": str(tenant.project_id)}

    with pytest.raises(AppError) as refused:
        await dispatch.call(tenant.principal, tool, {**arguments, "base_url": f"http://{host}:8080/v1"})

    assert refused.value.code == "url_not_allowed"
    assert refused.value.details == {"arguments": [{"do": "change", "at": "base_url"}]}
    listed = await dispatch.call(tenant.principal, "list_projects", {})
    assert len(listed.structured["projects"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 81},
        {"name": "nul\x00"},
        {"base_url": "ftp://example.test"},
        {"base_url": "https://user:password@example.test"},
        {"base_url": "http://[broken"},
        {"tool_call_limit": -1},
        {"model_parameters": {"temprature": 1}},
        {"unknown": 1},
        {},
        {"model": "local", "clear": ["model"]},
    ],
)
async def test_a_wrong_setting_is_explained_and_changes_nothing(
    dispatch: Dispatch, tenant: Tenant, wrong: dict[str, Any]
) -> None:
    before = await dispatch.call(tenant.principal, "get_project", {"project_id": str(tenant.project_id)})

    error = await refused(dispatch, tenant, "update_project", project_id=str(tenant.project_id), **wrong)

    assert (error.code, error.status, error.retryable) == ("invalid_arguments", 400, False)
    assert error.hint
    after = await dispatch.call(tenant.principal, "get_project", {"project_id": str(tenant.project_id)})
    assert after.structured == before.structured


@pytest.mark.usefixtures("unasked")
async def test_deleting_a_project_takes_all_its_rows_and_nothing_else(
    dispatch: Dispatch, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    for project_id in (tenant.project_id, stranger.project_id):
        end_user, thread, run = uuid7(), uuid7(), uuid7()
        await owner.execute(
            "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, 'u')", project_id, end_user
        )
        await owner.execute(
            "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 't')",
            *(project_id, thread, end_user),
        )
        await owner.execute(
            "INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, agent,"
            " input_digest, status) VALUES ($1, $2, $3, $4, 'r', $5, $5, 'demo', '', 'running')",
            *(project_id, run, thread, end_user, uuid7()),
        )
        await owner.execute(
            "INSERT INTO run_events (project_id, run_id, seq, event) VALUES ($1, $2, 1, '{}')", project_id, run
        )
        await owner.execute(
            "INSERT INTO messages (project_id, id, thread_id, run_id, position, role)"
            " VALUES ($1, $2, $3, $4, 1, 'user')",
            *(project_id, uuid7(), thread, run),
        )

    deleted = await dispatch.call(tenant.principal, "delete_project", {"project_id": str(tenant.project_id)})

    assert deleted.structured == {"id": str(tenant.project_id), "deleted": True}
    for table in ("end_users", "threads", "runs", "run_events", "messages", "project_members"):
        count = f"SELECT count(*) FROM {table} WHERE project_id = $1"
        assert await owner.fetchval(count, tenant.project_id) == 0, table
        assert await owner.fetchval(count, stranger.project_id) == 1, table
    error = await refused(dispatch, tenant, "get_project", project_id=str(tenant.project_id))
    assert error.code == "project_not_found"


@pytest.mark.parametrize("role", ["member", "viewer"])
@pytest.mark.parametrize("name", ["update_project", "delete_project"])
async def test_who_does_not_administer_a_project_is_told_whom_to_ask(
    dispatch: Dispatch, house: House, tenant: Tenant, role: str, name: str
) -> None:
    principal = await house.member(tenant.project_id, role)
    arguments = {"project_id": str(tenant.project_id)} | ({"name": "x"} if name == "update_project" else {})

    with pytest.raises(AppError) as caught:
        await dispatch.call(principal, name, arguments)

    assert caught.value.code == "role_insufficient"
    assert (await dispatch.call(tenant.principal, "get_project", {"project_id": str(tenant.project_id)})).structured


async def test_a_connection_narrowed_to_a_project_fills_it_in(dispatch: Dispatch, tenant: Tenant) -> None:
    narrowing = Narrowing(project_id=tenant.project_id)
    await dispatch.call(tenant.principal, "create_project", {"name": "another"})

    read = await dispatch.call(tenant.principal, "get_project", {}, narrowing=narrowing)
    listed = await dispatch.call(tenant.principal, "list_projects", {}, narrowing=narrowing)

    assert read.structured["id"] == str(tenant.project_id)
    assert [project["id"] for project in listed.structured["projects"]] == [str(tenant.project_id)]
    schema = next(
        tool.input_schema
        for tool in dispatch.catalog.visible(narrowing.of(tenant.principal))
        if tool.name == "get_project"
    )
    assert "project_id" not in schema["properties"]


async def test_a_resource_reads_the_same_as_its_tool(dispatch: Dispatch, tenant: Tenant) -> None:
    read = await dispatch.read_resource(tenant.principal, f"innkeeper://projects/{tenant.project_id}")
    called = await dispatch.call(tenant.principal, "get_project", {"project_id": str(tenant.project_id)})

    assert isinstance(read, Outcome)
    assert read.structured == called.structured
