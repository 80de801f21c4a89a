"""Questions to the database's catalog, for a backup that is complete and a restore that overwrites nothing."""

from __future__ import annotations

import asyncpg

from db.errors import AppError

# Tables of ours: of no system schema, and of no extension.
TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
  SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname
"""
# Tables of which row-level security may hide rows from the current role: pg_dump would leave them out without a word.
# Safe is a table with a permissive policy "true" for reading and no restrictive one, of those that apply to the role.
HIDDEN = """
WITH mine AS (
  SELECT p.* FROM pg_policy p WHERE p.polcmd IN ('*', 'r') AND (
    0 = ANY (p.polroles)
    OR EXISTS (SELECT 1 FROM unnest(p.polroles) r WHERE r <> 0 AND pg_has_role(current_user, r, 'USAGE'))))
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity
AND (c.relforcerowsecurity OR NOT pg_has_role(current_user, c.relowner, 'USAGE'))
AND (EXISTS (SELECT 1 FROM mine WHERE polrelid = c.oid AND NOT polpermissive) OR NOT EXISTS (
  SELECT 1 FROM mine WHERE polrelid = c.oid AND polpermissive AND pg_get_expr(polqual, polrelid) = 'true'))
ORDER BY 1
"""
# Everybody whom a grant or a policy of this database names.
ROLES = """
SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname !~ '^pg_'
AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (d.deptype IN ('a', 'r') OR r.rolname = current_user) ORDER BY 1
"""


async def sees_all(connection: asyncpg.Connection) -> bool:
    """Whether row-level security does not apply to the current role at all."""
    query = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    return bool(await connection.fetchval(query))


async def refuse_hidden_rows(connection: asyncpg.Connection) -> None:
    """Raise AppError when a dump by the current role would leave out rows without a word."""
    hidden = [] if await sees_all(connection) else [row["name"] for row in await connection.fetch(HIDDEN)]
    if hidden:
        raise AppError(
            "backup_incomplete",
            403,
            f"This role does not see every row of {len(hidden)} tables ({', '.join(hidden[:5])}): row-level security "
            "hides them.",
            "Use the owner's address (DATABASE_OWNER_URL), with the policy owner_all on every table.",
        )


async def roles_named(connection: asyncpg.Connection) -> list[str]:
    return [row["rolname"] for row in await connection.fetch(ROLES)]


async def alembic_revision(connection: asyncpg.Connection) -> str | None:
    """The schema's revision; ``None`` for a database that was never migrated."""
    if not await connection.fetchval("SELECT to_regclass('public.alembic_version') IS NOT NULL"):
        return None
    found = await connection.fetchval("SELECT string_agg(version_num, ',') FROM public.alembic_version")
    return None if found is None else str(found)


async def first_table_with_rows(connection: asyncpg.Connection) -> str | None:
    """A table that holds something. The migrations' own mark does not count."""
    for row in await connection.fetch(TABLES):
        if row["relname"] == "alembic_version":
            continue
        name = await connection.fetchval("SELECT format('%I.%I', $1::text, $2::text)", row["nspname"], row["relname"])
        if await connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM {name})"):  # noqa: S608 -- quoted by format()
            return str(name)
    return None


async def missing_roles(connection: asyncpg.Connection, names: list[str]) -> list[str]:
    """Those of ``names`` that the server does not have, sorted."""
    found = await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname = ANY($1)", names)
    return sorted(set(names) - {row["rolname"] for row in found})


async def extensions(connection: asyncpg.Connection) -> set[str]:
    """The names of the extensions that the database has."""
    return {row["extname"] for row in await connection.fetch("SELECT extname FROM pg_extension")}
