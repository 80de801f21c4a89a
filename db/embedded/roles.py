"""What a fresh cluster needs before the first migration: the roles, the database, the extensions."""

from __future__ import annotations

import asyncpg

from db.embedded.state import APP, OPS, OWNER, SUPERUSER, State

DATABASE = "innkeeper"
# Raise it when this module does more than before: existing clusters are then prepared again at their next start.
PREPARATION = 1
# Those that only a superuser may create; the owner creates trusted ones (pg_trgm, citext, btree_gin) itself.
EXTENSIONS = ("vector",)
LOGIN = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION"
# The owner of a database has the schema public through the role pg_database_owner, which it has to inherit.
INHERITS = {OWNER: "INHERIT", APP: "NOINHERIT", OPS: "NOINHERIT"}


async def prepare_cluster(connection: asyncpg.Connection, state: State) -> None:
    """Make roles and database, as superuser. Repeats itself harmlessly, also after an interrupted first time."""
    existing = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for role, inherits in INHERITS.items():
        verb = "ALTER" if role in existing else "CREATE"
        password = await connection.fetchval("SELECT quote_literal($1::text)", state.passwords[role])
        await connection.execute(f"{verb} ROLE {role} {LOGIN} {inherits} PASSWORD {password}")
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    await connection.execute(
        f"REVOKE ALL ON DATABASE {DATABASE}, {SUPERUSER}, template1 FROM PUBLIC; "
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {APP}, {OPS}"
    )


async def prepare_database(connection: asyncpg.Connection) -> None:
    """Create the extensions that the owner may not, where the installation has them."""
    rows = await connection.fetch("SELECT name FROM pg_available_extensions WHERE name = ANY($1)", list(EXTENSIONS))
    for row in rows:
        await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {row['name']}")
