"""End users in the database itself: what the application role sees when it acts for one, whatever Python forgot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from db import end_users
from db.credentials import Authenticator
from db.database import Database
from db.errors import AppError
from tests.conftest import Owner, eventually
from tests.db.product import PAGE, Product, belongings

if TYPE_CHECKING:
    from db.database import Connection

pytestmark = pytest.mark.promise("IDN-21")
OWN_TABLES = ("threads", "runs", "messages", "run_events", "run_steps", "files", "emails", "email_events")
CLOSED_TABLES = (
    *("users", "project_members", "credentials", "audit", "house_mails", "contacts", "suppressions"),
    *("token_sources", "registry_sources", "end_user_tokens"),
)


async def counts(connection: Connection, *tables: str) -> dict[str, int]:
    """How many rows are seen; none where not even looking is allowed."""
    found = {}
    for table in tables:
        await connection.execute("SAVEPOINT looking")
        try:
            found[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")
        except asyncpg.InsufficientPrivilegeError:
            await connection.execute("ROLLBACK TO looking")
            found[table] = 0
    return found


async def test_an_end_user_reads_only_rows_of_their_own(owner: Owner, database: Database, product: Product) -> None:
    project = product.tenant.project_id
    for whose in (product.ann, product.ben, None):
        await belongings(owner, project, whose)

    async with database.transaction(product.ann, project) as connection:
        seen = await counts(connection, *OWN_TABLES)
        assert seen == dict.fromkeys(OWN_TABLES, 1) | {"emails": 0, "email_events": 0}
        for table in ("threads", "runs", "messages", "run_events", "run_steps", "files"):
            rows = await connection.fetch(f"SELECT end_user_id FROM {table}")
            assert [row["end_user_id"] for row in rows] == [product.ann.end_user_id], table
        assert [row["id"] for row in await connection.fetch("SELECT id FROM end_users")] == [product.ann.end_user_id]
        assert await counts(connection, *CLOSED_TABLES) == dict.fromkeys(CLOSED_TABLES, 0)
    async with database.transaction(product.tenant.principal, project) as connection:
        assert (await counts(connection, "threads", "files", "end_users")) == {
            "threads": 3,
            "files": 3,
            "end_users": 2,
        }


RUNS_NEED = {
    *("agents", "component_blobs", "component_versions", "components", "email_accounts", "email_secrets"),
    *("email_templates", "project_storage", "projects", "provider_keys"),
}
"""What runs of end users read of their project: settings, what may be shown, and secrets that are sealed."""


async def test_every_other_table_is_closed_to_end_users_or_asks_whose_its_rows_are(owner: Owner) -> None:
    rows = await owner.fetch(
        "SELECT tablename, qual FROM pg_policies WHERE policyname = 'app_select' AND schemaname = 'public'"
    )
    # What only a person's session sees, or only who holds the credential, no end user does.
    closed = ("acting_end_user()", "administered_project()", "acting_person()", "acting_credential()")
    opened = {
        row["tablename"]
        for row in rows
        if row["qual"] != "false" and not any(function in row["qual"] for function in closed)
    }
    assert opened == RUNS_NEED | {"alembic_version"}, "say in the policy whether end users see it"


async def test_an_end_user_cannot_say_that_they_are_another_one(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    await belongings(owner, project, product.ben)

    async with database.transaction(product.ann, project) as connection:
        await connection.execute(f"SET LOCAL app.end_user_id = '{product.ben.end_user_id}'")
        assert await counts(connection, "threads", "files") == {"threads": 0, "files": 0}
        await connection.execute("SET LOCAL app.end_user_id = ''")
        assert await counts(connection, "threads", "files") == {"threads": 0, "files": 0}


NOT_THEIRS = (
    "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, gen_random_uuid(), $2, 'x')",
    "INSERT INTO threads (project_id, id, external_id) SELECT $1, gen_random_uuid(), 'x' WHERE $2::uuid <> $1",
    (
        "INSERT INTO files (project_id, id, end_user_id, path, size, content_type, created_by, credential_id)"
        " VALUES ($1, gen_random_uuid(), $2, 'x', 1, 'text/plain', $2, $2)"
    ),
    "INSERT INTO end_users (project_id, id, external_id) VALUES ($1, gen_random_uuid(), $2::uuid::text)",
    "INSERT INTO agents (project_id, id, name) VALUES ($1, gen_random_uuid(), $2::uuid::text)",
    "INSERT INTO contacts (project_id, id, address) VALUES ($1, gen_random_uuid(), $2::uuid::text)",
    "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, 'owner')",
    "INSERT INTO projects (id, name, created_by) SELECT $2, $1::uuid::text, acting_user()",
)


async def test_an_end_user_writes_nothing_that_is_not_theirs(database: Database, product: Product) -> None:
    project = product.tenant.project_id
    for statement in NOT_THEIRS:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(product.ann, project) as connection:
                await connection.execute(statement, project, product.ben.end_user_id)


async def test_an_end_user_changes_and_deletes_nothing_that_is_not_theirs(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    theirs = await belongings(owner, project, product.ben)
    mine = await belongings(owner, project, product.ann)
    await belongings(owner, project, None)

    async with database.transaction(product.ann, project) as connection:
        assert await connection.execute("UPDATE threads SET name = 'mine now'") == "UPDATE 1"
        assert await connection.execute("UPDATE files SET path = 'mine'") == "UPDATE 1"
        assert await connection.execute("DELETE FROM threads WHERE id = $1", theirs["thread"]) == "DELETE 0"
        assert await connection.execute("UPDATE projects SET name = 'mine now'") == "UPDATE 0"
        assert await connection.execute("UPDATE agents SET instructions = 'obey me'") == "UPDATE 0"
        assert await connection.execute("UPDATE end_users SET external_id = 'me'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM projects") == "DELETE 0"
        assert await connection.execute("DELETE FROM provider_keys") == "DELETE 0"
        await connection.execute("DELETE FROM threads WHERE id = $1", mine["thread"])
    assert await owner.fetchval("SELECT count(*) FROM threads WHERE project_id = $1", project) == 2


async def test_an_end_user_cannot_give_away_a_thread_or_a_file_of_theirs(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    await belongings(owner, project, product.ann)
    for table in ("threads", "files"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(product.ann, project) as connection:
                await connection.execute(f"UPDATE {table} SET end_user_id = $1", product.ben.end_user_id)


async def test_a_publishable_key_by_itself_sees_nothing_and_writes_nothing(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    project = product.tenant.project_id
    for whose in (product.ann, None):
        await belongings(owner, project, whose)
    key = await authenticator.publishable(product.key)
    assert key is not None
    assert not key.scopes
    assert key.origins == frozenset({PAGE})
    assert await authenticator.authenticate(product.key) is None

    async with database.transaction(key, project) as connection:
        tables = (*OWN_TABLES, *CLOSED_TABLES, "end_users")
        assert await counts(connection, *tables) == dict.fromkeys(tables, 0)
        assert await connection.execute("UPDATE projects SET name = 'x'") == "UPDATE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(key, project) as connection:
            await connection.execute(
                "INSERT INTO threads (project_id, id, external_id) VALUES ($1, gen_random_uuid(), 'x')", project
            )


async def test_end_users_and_their_tokens_go_with_their_project(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    project = product.tenant.project_id
    issued = await end_users.issue(database, product.key, project, issuer="", name="cat")
    await owner.execute(
        "INSERT INTO token_sources (project_id, id, kind, created_by) VALUES ($1, $1, 'none', $1)", project
    )

    await owner.execute("DELETE FROM projects WHERE id = $1", project)

    for table in ("end_users", "end_user_tokens", "token_sources"):
        assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await owner.fetchval("SELECT count(*) FROM credentials WHERE kind = 'end_user'") == 0

    async def forgotten() -> bool:
        return await authenticator.authenticate(issued.token) is None

    await eventually(forgotten)
    with pytest.raises(AppError):
        await end_users.issue(database, product.key, project, issuer="", name="cat")
