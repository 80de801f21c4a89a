"""Generated from the registry and the catalog: each tool with each role, and each table by raw SQL, as
``docs/members.md`` has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from tests.conftest import House, Owner, Tenant
from tests.fakes.memory_store import MemoryStore
from tests.tools.test_tenancy import EVERY_FAMILY, FAMILY_IDS, MAKERS, WITH_PROJECT, arguments_for, rows_of
from tools.contract import ToolSpec
from tools.dispatch import Dispatch

pytestmark = [pytest.mark.promise("IDN-30"), pytest.mark.usefixtures("unasked")]
ROLES: Final = ("viewer", "member", "admin", "owner")
"""From what may least."""
PAGE: Final = Path(__file__).parents[2] / "docs" / "members.md"
CHANGES: Final = {"set_budgets": {"clear": ["monthly_usd"]}}
"""What a tool needs to be given although none of its parameters is required."""
ENDS: Final = ("delete_project", "leave_project")
OF_ADMINS: Final = frozenset({"agents", "projects", "provider_keys", "registry_sources", "invitations"})
"""Tables that have rows here and that members only read."""
OWN: Final = frozenset({"idempotency", "approvals", "audit"})
"""Rows of the caller's own key."""


def least_roles() -> dict[str, str]:
    """The tools of the page that differ from the rule, and the role that each needs."""
    rows = re.findall(r"^\| (`.*`) \| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: role for names, role in rows for name in re.findall(r"`(\w+)`", names)}


def least_role(spec: ToolSpec) -> str:
    return least_roles().get(spec.name, "viewer" if spec.hints.read_only else "member")


def test_the_page_of_roles_names_tools_there_are() -> None:
    named = least_roles()
    assert set(named) <= {spec.name for spec in WITH_PROJECT}
    assert set(named.values()) == {"viewer", "admin", "owner"}
    assert not [name for name in named if named[name] == "viewer" and name != "leave_project"]


async def furnished(dispatch: Dispatch, store: MemoryStore, house: House, tenant: Tenant) -> dict[str, Any]:
    """A project with something of everything, by the id's parameter."""
    made = {
        name: await MAKERS[table](dispatch, store, tenant)
        for name, table in FAMILY_IDS.items()
        if table != "registry_sources"  # a sync comes with its source
    }
    made["source_id"] = await house.owner.fetchval("SELECT id FROM registry_sources")
    member = await house.member(tenant.project_id, "viewer")
    return {**made, "member_id": member.user_id}


@pytest.mark.parametrize("role", ROLES)
async def test_each_tool_does_for_each_role_what_the_page_says(
    dispatch: Dispatch, store: MemoryStore, house: House, owner: Owner, tenant: Tenant, role: str
) -> None:
    there = await furnished(dispatch, store, house, tenant)
    me = await house.member(tenant.project_id, role)
    before = await rows_of(owner, tenant)

    async def answer(spec: ToolSpec, arguments: dict[str, Any]) -> tuple[str, Any]:
        try:
            await dispatch.call(me, spec.name, arguments, narrowing=EVERY_FAMILY)
        except AppError as error:
            return error.code, error.details.get("ask")
        return "answered", None

    refused = [spec for spec in WITH_PROJECT if ROLES.index(role) < ROLES.index(least_role(spec))]
    for spec in refused:
        arguments = arguments_for(spec, tenant.project_id) | CHANGES.get(spec.name, {})
        arguments |= {name: str(value) for name, value in there.items() if name in arguments}
        code, ask = await answer(spec, arguments)
        assert code in ("role_insufficient", "project_read_only"), (spec.name, code)
        assert ask == {"role": least_role(spec)}, spec.name
    assert await rows_of(owner, tenant) == before, "what is refused changes nothing"

    for spec in WITH_PROJECT:
        if spec in refused:
            continue
        project_id = tenant.project_id
        if spec.name in ENDS:
            project_id = uuid7()
            await owner.execute(
                "INSERT INTO projects (id, name, created_by) VALUES ($1, 'ends', $2)", project_id, tenant.user_id
            )
            await owner.execute(
                "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)",
                *(me.user_id, project_id, role),
            )
        code, _ask = await answer(spec, arguments_for(spec, project_id) | CHANGES.get(spec.name, {}))
        assert code not in ("role_insufficient", "not_permitted", "project_not_found"), (spec.name, code)


async def tried(database: Database, who: Principal, tenant: Tenant, statement: str) -> str:
    """What a statement does in the project, and takes back: its tag, or ``refused``."""
    try:
        async with database.transaction(who, tenant.project_id) as connection:
            tag = await connection.execute(statement)
            raise RuntimeError(tag)
    except asyncpg.InsufficientPrivilegeError:
        return "refused"
    except RuntimeError as done:
        return str(done)


async def columns_to_write(owner: Owner, table: str) -> list[str]:
    rows = await owner.fetch(
        "SELECT column_name FROM information_schema.column_privileges"
        " WHERE grantee = 'innkeeper_app' AND privilege_type = 'UPDATE' AND table_name = $1",
        table,
    )
    return [row["column_name"] for row in rows]


@pytest.mark.parametrize("role", ["viewer", "member"])
async def test_by_raw_sql_a_viewer_changes_nothing_and_a_member_nothing_of_admins(
    dispatch: Dispatch, database: Database, store: MemoryStore, house: House, owner: Owner, tenant: Tenant, role: str
) -> None:
    """As if Python forgot every check: each table of the project with each command that the role is granted."""
    await furnished(dispatch, store, house, tenant)
    await owner.execute(
        "INSERT INTO provider_keys (project_id, id, provider, sealed, hint, created_by)"
        " VALUES ($1, $2, 'openai', 'x', '', $3)",
        *(tenant.project_id, uuid7(), tenant.user_id),
    )
    me = await house.member(tenant.project_id, role)
    tables = await owner.fetch(
        "SELECT DISTINCT c.table_name FROM information_schema.columns c JOIN pg_class k ON k.relname = c.table_name"
        " WHERE c.table_schema = 'public' AND (c.column_name = 'project_id' OR c.table_name = 'projects')"
        " AND k.relkind = 'r' ORDER BY 1"
    )
    proven = set()
    for table in {row["table_name"] for row in tables} - OWN:
        if role == "member" and table not in OF_ADMINS:
            continue
        column = "id" if table == "projects" else "project_id"
        held = await owner.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", tenant.project_id)
        for name in await columns_to_write(owner, table):
            told = await tried(database, me, tenant, f"UPDATE {table} SET {name} = {name}")
            assert told in ("UPDATE 0", "refused"), (table, name, told)
        if table != "project_members":  # of which everybody may delete one: their own
            told = await tried(database, me, tenant, f"DELETE FROM {table}")
            assert told in ("DELETE 0", "refused"), (table, told)
        told = await tried(database, me, tenant, f"INSERT INTO {table} SELECT * FROM {table}")
        assert told in ("INSERT 0 0", "refused"), (table, told)
        if held:
            proven.add(table)
    assert proven >= OF_ADMINS
    if role == "viewer":
        assert proven >= {"threads", "runs", "files", "emails", "components", "project_members"} - {"components"}
