"""End users in the database itself: what the application role sees when it acts for one, whatever Python forgot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from db import accounts, end_users
from db.credentials import Authenticator
from db.database import Database, Transaction
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from db.scopes import HELD_BY_END_USERS
from tests.conftest import House, Owner, Tenant, eventually

if TYPE_CHECKING:
    from db.database import Connection

pytestmark = pytest.mark.promise("IDN-21")
PAGE = "https://app.example.com"
OWN_TABLES = ("threads", "runs", "messages", "run_events", "run_steps", "files", "emails", "email_events")
CLOSED_TABLES = (
    *("users", "project_members", "credentials", "audit", "house_mails", "contacts", "suppressions"),
    *("token_sources", "registry_sources", "end_user_tokens"),
)


@dataclass(frozen=True)
class Product:
    """A project with a publishable key, and two of its users."""

    tenant: Tenant
    key_id: UUID
    key: str
    ann: Principal
    ben: Principal


@pytest_asyncio.fixture
async def product(owner: Owner, database: Database, tenant: Tenant, authenticator: Authenticator) -> Product:
    key_id, key = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id, origins=[PAGE])
    users = []
    for name in ("ann", "ben"):
        issued = await end_users.issue(database, key, tenant.project_id, issuer="https://idp.test", name=name)
        found = await authenticator.authenticate(issued.token)
        assert found is not None
        users.append(found)
    return Product(tenant, key_id, key, *users)


async def belongings(owner: Owner, project: UUID, whose: Principal | None) -> dict[str, UUID]:
    """A row of every table in which an end user can own one; those of nobody's without ``whose``."""
    end_user = None if whose is None else whose.end_user_id
    thread, run, file, mail = (uuid7() for _ in range(4))
    credential, user = uuid7(), uuid7()
    await owner.execute(
        "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'talk')",
        *(project, thread, end_user),
    )
    await owner.execute(
        "INSERT INTO runs (project_id, id, thread_id, end_user_id, external_id, credential_id, user_id, agent,"
        " input_digest) VALUES ($1, $2, $3, $4, 'run', $5, $6, 'default', '')",
        *(project, run, thread, end_user, credential, user),
    )
    await owner.execute(
        "INSERT INTO messages (project_id, id, thread_id, run_id, end_user_id, position, role)"
        " VALUES ($1, $2, $3, $4, $5, 1, 'user')",
        *(project, uuid7(), thread, run, end_user),
    )
    await owner.execute(
        "INSERT INTO run_events (project_id, run_id, seq, end_user_id, event) VALUES ($1, $2, 1, $3, '')",
        *(project, run, end_user),
    )
    await owner.execute(
        "INSERT INTO run_steps (project_id, run_id, name, end_user_id, seq, value) VALUES ($1, $2, 'a', $3, 1, '')",
        *(project, run, end_user),
    )
    await owner.execute(
        "INSERT INTO files (project_id, id, end_user_id, path, size, content_type, status, created_by, credential_id)"
        " VALUES ($1, $2, $3, 'notes.txt', 5, 'text/plain', 'ready', $4, $5)",
        *(project, file, end_user, user, credential),
    )
    return {"thread": thread, "run": run, "file": file, "mail": mail}


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


async def test_what_end_users_have_ends_with_their_key(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    assert await authenticator.authenticate(issued.token) is not None

    await accounts.revoke_key(owner, str(product.key_id))

    async def forgotten() -> bool:
        return await authenticator.authenticate(issued.token) is None

    await eventually(forgotten)
    assert not await authenticator.still_valid(product.ann)
    with pytest.raises(AppError) as refused:
        await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    assert refused.value.code == "invalid_client"


async def test_no_token_is_issued_past_a_key_that_is_just_being_revoked(
    owner: Owner, database: Database, product: Product
) -> None:
    async with owner.transaction():
        await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", product.key_id)
        issuing = asyncio.create_task(
            end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
        )

        async def waits() -> bool:
            return bool(await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await eventually(waits)
    with pytest.raises(AppError) as refused:
        await issuing
    assert refused.value.code == "invalid_client"
    live = "SELECT count(*) FROM credentials WHERE kind = 'end_user' AND revoked_at IS NULL"
    assert await owner.fetchval(live) == 0


async def test_fifty_exchanges_at_once_for_one_user_make_one_user_and_one_credential(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    issuing = (end_users.issue(database, product.key, project, issuer="", name="cat") for _ in range(50))
    issued = await asyncio.gather(*issuing)
    assert len({one.end_user_id for one in issued}) == 1
    assert len({one.token for one in issued}) == 50
    held = "SELECT count(*) FROM credentials WHERE end_user_id = $1"
    assert await owner.fetchval(held, issued[0].end_user_id) == 1


async def test_only_keys_may_name_end_users(owner: Owner, database: Database, product: Product) -> None:
    tenant = product.tenant
    first = await end_users.named(database, tenant.principal, tenant.project_id, "u1")
    assert await end_users.named(database, tenant.principal, tenant.project_id, "u1") == first
    client = uuid7()
    await owner.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name) VALUES ($1, 'c', 'registered', 'C')", client
    )
    await owner.execute(
        "UPDATE credentials SET kind = 'oauth', client_id = $2, token_hash = NULL WHERE id = $1",
        *(tenant.principal.credential_id, client),
    )
    for caller in (tenant.principal, product.ann):
        with pytest.raises(AppError):
            await end_users.named(database, caller, tenant.project_id, "u1")


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


async def test_a_token_outlives_neither_its_source_nor_its_key_nor_an_hour(
    owner: Owner, database: Database, tenant: Tenant
) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    _id, key = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id)
    _id, short = await accounts.create_publishable_key(owner, tenant.user_id, tenant.project_id, expires_at=soon)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for used, until, most in ((key, soon, 300), (key, tomorrow, 3600), (short, tomorrow, 300), (key, None, 3600)):
        issued = await end_users.issue(database, used, tenant.project_id, issuer="", name="ann", until=until)
        assert most - 10 <= issued.seconds <= most
    with pytest.raises(AppError) as refused:
        await end_users.issue(database, key, tenant.project_id, issuer="", name="ann", until=datetime.now(UTC))
    assert refused.value.message == "The subject_token has expired."


async def test_the_same_name_of_two_issuers_is_two_people(database: Database, product: Product) -> None:
    project = product.tenant.project_id
    found = [
        (await end_users.issue(database, product.key, project, issuer=issuer, name="ann")).end_user_id
        for issuer in ("https://idp.test", "https://other.test", end_users.UNVERIFIED, "https://idp.test")
    ]
    assert found[0] == found[3] == product.ann.end_user_id
    assert len(set(found)) == 3
    named = await end_users.named(database, product.tenant.principal, project, "ann")
    assert named not in found


async def test_an_end_user_has_one_credential_by_a_key_while_tokens_change(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(
        database, product.key, product.tenant.project_id, issuer="https://idp.test", name="ann"
    )
    again = await authenticator.authenticate(issued.token)
    assert again == product.ann
    assert again.scopes == HELD_BY_END_USERS


async def test_what_goes_on_outlasts_a_token_and_ends_with_the_key(
    owner: Owner, database: Database, product: Product, authenticator: Authenticator
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    cat = await authenticator.authenticate(issued.token)
    assert cat is not None
    await owner.execute("UPDATE end_user_tokens SET expires_at = now()")
    assert await Authenticator(database).authenticate(issued.token) is None
    assert await Authenticator(database).still_valid(cat)
    await owner.execute("UPDATE credentials SET revoked_at = now() WHERE id = $1", product.key_id)
    assert not await Authenticator(database).still_valid(cat)


async def test_a_token_is_looked_up_in_one_query(
    database: Database, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await end_users.issue(database, product.key, product.tenant.project_id, issuer="", name="cat")
    asked = []
    real = database.system

    def counted() -> Transaction:
        asked.append(1)
        return real()

    monkeypatch.setattr(database, "system", counted)
    authenticator = Authenticator(database)
    for _ in range(3):
        assert await authenticator.authenticate(issued.token) is not None
    assert len(asked) == 1


async def test_a_secret_key_lends_its_end_users_no_more_than_it_has(
    database: Database, tenant: Tenant, house: House, authenticator: Authenticator
) -> None:
    key = await house.key(tenant.user_id, project_id=tenant.project_id, scopes=["runs:read", "projects:write"])
    issued = await end_users.issue(database, key, tenant.project_id, issuer="", name="ann")
    assert issued.scopes == ("runs:read",)
    reader = await house.key(tenant.user_id, project_id=tenant.project_id, read_only=True)
    assert await end_users.find_exchange(database, reader) is None


async def test_a_key_exchanges_in_no_other_project(database: Database, product: Product, stranger: Tenant) -> None:
    assert await end_users.find_exchange(database, product.key, stranger.project_id) is None
    assert await end_users.find_exchange(database, product.tenant.token, stranger.project_id) is None
    with pytest.raises(AppError):
        await end_users.issue(database, product.key, stranger.project_id, issuer="", name="ann")
    with pytest.raises(AppError) as refused:
        await end_users.named(database, product.tenant.principal, stranger.project_id, "ann")
    assert refused.value.code == "project_not_found"


async def test_a_visitor_goes_on_with_their_session_for_a_month_after_each_use(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    begun = await end_users.begin_session(database, product.key, project)
    assert begun.session is not None
    resumed = await end_users.resume_session(database, product.key, project, begun.session)
    assert resumed.end_user_id == begun.end_user_id
    other = await end_users.begin_session(database, product.key, project)
    assert other.end_user_id != begun.end_user_id

    await owner.execute("UPDATE end_users SET seen_at = now() - interval '31 days' WHERE id = $1", begun.end_user_id)
    with pytest.raises(AppError) as refused:
        await end_users.resume_session(database, product.key, project, begun.session)
    assert refused.value.code == "invalid_request"


async def test_what_has_had_its_time_is_cleaned_away_and_what_somebody_left_is_kept(
    owner: Owner, database: Database, product: Product
) -> None:
    project = product.tenant.project_id
    gone = await end_users.begin_session(database, product.key, project)
    talked = await end_users.begin_session(database, product.key, project)
    fresh = await end_users.begin_session(database, product.key, project)
    await owner.execute(
        "INSERT INTO threads (project_id, id, end_user_id, external_id) VALUES ($1, $2, $3, 'talk')",
        *(project, uuid7(), talked.end_user_id),
    )
    old = [gone.end_user_id, talked.end_user_id]
    await owner.execute("UPDATE end_users SET seen_at = now() - interval '31 days' WHERE id = ANY ($1)", old)
    await owner.execute(
        "UPDATE end_user_tokens t SET expires_at = now() - interval '1 day' FROM credentials c"
        " WHERE c.id = t.credential_id AND c.end_user_id = ANY ($1)",
        old,
    )
    for _ in range(3):
        async with database.ops() as connection:
            await connection.fetchval("SELECT clean_end_users(100)")
    left = {row["id"] for row in await owner.fetch("SELECT id FROM end_users")}
    assert left == {talked.end_user_id, fresh.end_user_id, product.ann.end_user_id, product.ben.end_user_id}
    assert await owner.fetchval("SELECT count(*) FROM credentials WHERE end_user_id = ANY ($1)", old) == 0
