"""The database itself keeps tenants apart: proven on the catalog, and by a caller that names a wrong project."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from db.database import Database
from db.ids import uuid7
from tests.conftest import DatabaseUrls, House, Owner, Tenant

pytestmark = pytest.mark.promise("HOME-31")

STANDARD_POLICIES = {"app_select": "r", "app_insert": "a", "app_update": "w", "app_delete": "d", "owner_all": "*"}
SECURITY_DEFINERS = {
    "acting_credential",
    "acting_end_user",
    "acting_user",
    "add_key",
    "administered_project",
    "adopt_question",
    "answer_invitation",
    "append_events",
    "ask_sign_in",
    "authenticate",
    "bound_project",
    "bound_projects",
    "clean_up_oauth",
    "count_blobs",
    "count_invitations",
    "count_stored",
    "credential_lifetime",
    "decide_device",
    "end_exchanged_tokens",
    "end_member",
    "end_other_sessions",
    "end_runs_of_credential",
    "end_key",
    "end_session",
    "erase_end_user",
    "erase_objects",
    "find_client",
    "find_device",
    "find_exchange",
    "find_invitation",
    "find_sign_in",
    "forget_app",
    "forget_sign_ups",
    "introspect_token",
    "is_known_origin",
    "issue_end_user_token",
    "is_invited",
    "issue_to_service",
    "keep_document",
    "keep_members",
    "lease_budget",
    "live_sessions",
    "make_creator_owner",
    "meter_run",
    "name_end_user",
    "may_audit",
    "my_invitations",
    "note_keys",
    "note_settings",
    "note_sign_in_limit",
    "note_sign_in_refused",
    "overseen_project",
    "owned_project",
    "poll_device",
    "project_people",
    "projects_with_any_files",
    "projects_with_components",
    "projects_with_due_files",
    "projects_with_files",
    "projects_without_meanings",
    "public_component_at",
    "public_components",
    "public_registry",
    "read_audit",
    "read_own_audit",
    "readable_project",
    "redeem_code",
    "refresh_grant",
    "register_client",
    "registry_webhook",
    "request_registry_sync",
    "require_lease",
    "revoke_children",
    "revoke_token",
    "search_components",
    "stamp_audit",
    "start_device",
    "stop_started",
    "suppressed_among",
    "tell_revoked",
    "transfer_project",
    "use_sign_in",
    "writable_project",
    "writing_user",
}


async def test_every_table_forces_row_security_with_exactly_the_standard_policies(owner: Owner) -> None:
    tables = await owner.fetch(
        "SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    assert {row["relname"] for row in tables} >= {
        "projects",
        "threads",
        "runs",
        "messages",
        "run_events",
        "credentials",
    }
    for table in tables:
        assert (table["relrowsecurity"], table["relforcerowsecurity"]) == (True, True), table["relname"]
        policies = await owner.fetch("SELECT polname, polcmd::text FROM pg_policy WHERE polrelid = $1", table["oid"])
        assert {row["polname"]: row["polcmd"] for row in policies} == STANDARD_POLICIES, table["relname"]


async def test_every_tenant_table_compares_with_the_checked_project_and_its_end_user(owner: Owner) -> None:
    policies = await owner.fetch(
        "SELECT tablename, policyname, coalesce(qual, '') || coalesce(with_check, '') AS condition FROM pg_policies"
        " WHERE tablename IN ('end_users', 'threads', 'runs', 'messages', 'run_events', 'files', 'emails',"
        " 'email_events')"
        " AND policyname <> 'owner_all'"
    )
    assert len(policies) == 8 * 4
    for row in policies:
        checked = "readable_project()" if row["policyname"] == "app_select" else "writable_project()"
        assert checked in row["condition"], dict(row)
        if row["tablename"] != "end_users":
            assert "acting_end_user()" in row["condition"], dict(row)


async def test_every_foreign_key_between_tenant_tables_carries_the_project(owner: Owner) -> None:
    keys = await owner.fetch(
        "SELECT c.conname, pg_get_constraintdef(c.oid) AS definition FROM pg_constraint c"
        " JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attname = 'project_id'"
        " WHERE c.contype = 'f' AND a.attnotnull AND c.confrelid <> 'project_members'::regclass"
    )
    assert keys
    for key in keys:
        assert key["definition"].startswith("FOREIGN KEY (project_id, "), key["definition"]


async def test_unique_constraints_on_tenant_tables_tell_nothing_of_other_tenants(owner: Owner) -> None:
    indexes = await owner.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexdef LIKE 'CREATE UNIQUE%'"
        " AND tablename IN ('end_users', 'threads', 'runs', 'messages', 'run_events', 'files', 'emails',"
        " 'email_events')"
    )
    assert indexes
    for index in indexes:
        assert "(project_id, " in index["indexdef"], index["indexdef"]


async def test_the_application_and_ops_roles_have_no_power_and_own_nothing(owner: Owner) -> None:
    roles = await owner.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolinherit, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles"
        " WHERE rolname IN ('innkeeper_app', 'innkeeper_ops')"
    )
    assert len(roles) == 2
    for role in roles:
        assert not any(value for name, value in role.items() if name != "rolname"), dict(role)
    owned = "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = ANY($1::text[])"
    assert await owner.fetchval(owned, ["innkeeper_app", "innkeeper_ops"]) == 0
    assert not await owner.fetchval("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'innkeeper_owner'")


async def test_the_ops_role_reads_no_table(owner: Owner) -> None:
    readable = await owner.fetch(
        "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = 'innkeeper_ops'"
    )
    assert readable == []


async def test_functions_with_the_owners_rights_are_the_listed_ones_and_safe(owner: Owner) -> None:
    functions = await owner.fetch(
        "SELECT n.nspname, p.proname, p.proconfig, p.proacl::text FROM pg_proc p"
        " JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    in_public = {row["proname"] for row in functions if row["nspname"] == "public"}
    assert in_public >= SECURITY_DEFINERS
    for function in functions:
        assert any(setting.startswith("search_path=pg_catalog") for setting in function["proconfig"]), dict(function)
        assert "=X/" not in (function["proacl"] or "=X/").replace("innkeeper_app=X/", "").replace(
            "innkeeper_ops=X/", ""
        ).replace("innkeeper_owner=X/", ""), dict(function)


async def test_every_check_of_a_binding_knows_bindings_to_several_projects(owner: Owner) -> None:
    single = await owner.fetch(
        "SELECT p.proname AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN ('public', 'ops') AND p.proname <> 'bound_project' AND (p.prosrc LIKE '%bound_project()%'"
        "   OR (p.prosrc LIKE '%credentials c%' AND p.prosrc LIKE '%c.project_id = %.project_id%'"
        "     AND p.prosrc NOT LIKE '%c.project_ids%'))"
        " UNION ALL SELECT tablename || '.' || policyname FROM pg_policies"
        " WHERE coalesce(qual, '') || coalesce(with_check, '') LIKE '%bound_project()%'"
    )
    assert [row["name"] for row in single] == [], "use bound_projects(), or project_ids beside project_id"


async def test_without_a_caller_no_row_is_seen(database: Database, tenant: Tenant) -> None:
    async with database.system() as connection:
        for table in ("users", "projects", "project_members", "threads", "runs", "audit", "idempotency"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_project_wrongly_chosen_in_python_yields_no_row(
    database: Database, tenant: Tenant, stranger: Tenant, owner: Owner
) -> None:
    await owner.execute(
        "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, 'secret')", tenant.project_id, uuid7()
    )

    async with database.transaction(stranger.principal, tenant.project_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM threads") == 0
        assert await connection.fetchval("SELECT count(*) FROM projects WHERE id = $1", tenant.project_id) == 0
        assert await connection.execute("UPDATE threads SET name = 'taken'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM projects WHERE id = $1", tenant.project_id) == "DELETE 0"
    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM threads") == 1


async def test_a_stranger_cannot_write_into_a_project_it_names(
    database: Database, tenant: Tenant, stranger: Tenant
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(stranger.principal, tenant.project_id) as connection:
            await connection.execute(
                "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, 'x')", tenant.project_id, uuid7()
            )


async def test_a_viewer_reads_and_cannot_write(database: Database, tenant: Tenant, house: House) -> None:
    viewer = await house.member(tenant.project_id, "viewer")

    async with database.transaction(viewer, tenant.project_id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM projects WHERE id = $1", tenant.project_id) == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(viewer, tenant.project_id) as connection:
            await connection.execute(
                "INSERT INTO threads (project_id, id, external_id) VALUES ($1, $2, 'x')", tenant.project_id, uuid7()
            )


async def test_a_key_bound_to_one_project_sees_no_other_of_the_same_user(
    database: Database, tenant: Tenant, house: House, owner: Owner
) -> None:
    other = uuid7()
    await owner.execute("INSERT INTO projects (id, name, created_by) VALUES ($1, 'other', $2)", other, tenant.user_id)
    bound = await house.principal(await house.key(tenant.user_id, project_id=tenant.project_id))

    for chosen in (other, tenant.project_id, None):
        async with database.transaction(bound, chosen) as connection:
            assert [row["id"] for row in await connection.fetch("SELECT id FROM projects")] == [tenant.project_id]


async def test_an_end_user_sees_only_their_own_threads(database: Database, tenant: Tenant, owner: Owner) -> None:
    mine, theirs = uuid7(), uuid7()
    for end_user in (mine, theirs):
        await owner.execute(
            "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, $2, $3)",
            *(tenant.project_id, end_user, str(end_user)),
        )
        await owner.execute(
            "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'same name')",
            *(tenant.project_id, uuid7(), end_user),
        )
    as_mine = replace(tenant.principal, end_user_id=mine)

    async with database.transaction(as_mine, tenant.project_id) as connection:
        rows = await connection.fetch("SELECT end_user_id FROM threads")
        assert [row["end_user_id"] for row in rows] == [mine]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(as_mine, tenant.project_id) as connection:
            await connection.execute(
                "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'x')",
                *(tenant.project_id, uuid7(), theirs),
            )


async def test_a_revoked_key_reads_nothing_even_where_python_still_trusts_it(
    database: Database, tenant: Tenant, owner: Owner
) -> None:
    await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", tenant.principal.credential_id)

    async with database.transaction(tenant.principal, tenant.project_id) as connection:
        assert await connection.fetch("SELECT id FROM projects") == []


async def test_nothing_of_a_caller_stays_on_its_connection(urls: DatabaseUrls, tenant: Tenant) -> None:
    database = await Database.open(urls.app, min_size=1, max_size=1)
    try:
        async with database.transaction(tenant.principal, tenant.project_id) as connection:
            assert await connection.fetchval("SELECT count(*) FROM projects") == 1
        async with database.system() as connection:
            assert await connection.fetchval("SELECT count(*) FROM projects") == 0
            assert await connection.fetchval("SELECT coalesce(current_setting('app.user_id', true), '')") == ""
    finally:
        await database.close()


async def test_token_hashes_cannot_be_read_by_the_application(database: Database, tenant: Tenant) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(tenant.principal) as connection:
            await connection.fetch("SELECT token_hash FROM credentials")
