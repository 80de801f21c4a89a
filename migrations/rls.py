"""Row-level security for every table, emitted by the migrations and proven by the catalog test.

Each table gets the same shape: ENABLE and FORCE, one policy for each of the four commands for the application role,
and ``owner_all`` for the owner, without which FORCE would make an owner's own migration update nothing in silence.
Policies compare with ``(SELECT f())``: the function runs once a statement, not once a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from alembic import op


@dataclass(frozen=True)
class Roles:
    """The database roles a migration writes policies and grants for."""

    owner: str
    app: str = "innkeeper_app"
    ops: str = "innkeeper_ops"


def roles() -> Roles:
    """The roles of the migration that is running, as ``migrations.runner`` set them."""
    config = op.get_context().config
    if config is None:
        raise RuntimeError("run the migrations through migrations.runner, which names the roles")
    found: Roles = config.attributes["roles"]
    return found


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def protect(table: str, *, select: str, insert: str, update: str, delete: str) -> None:
    """Force row-level security on ``table``; each argument is the SQL condition of that command."""
    who = roles()
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    app = quoted(who.app)
    op.execute(f"CREATE POLICY app_select ON {table} FOR SELECT TO {app} USING ({select})")
    op.execute(f"CREATE POLICY app_insert ON {table} FOR INSERT TO {app} WITH CHECK ({insert})")
    op.execute(f"CREATE POLICY app_update ON {table} FOR UPDATE TO {app} USING ({update}) WITH CHECK ({update})")
    op.execute(f"CREATE POLICY app_delete ON {table} FOR DELETE TO {app} USING ({delete})")
    op.execute(f"CREATE POLICY owner_all ON {table} TO {quoted(who.owner)} USING (true) WITH CHECK (true)")


def protect_tenant(table: str, *, end_user: bool) -> None:
    """The standard policies of a table with ``project_id``; with ``end_user`` also bound to the acting end user."""
    read = "project_id = (SELECT readable_project())"
    write = "project_id = (SELECT writable_project())"
    if end_user:
        theirs = "((SELECT acting_end_user()) IS NULL OR end_user_id = (SELECT acting_end_user()))"
        read, write = f"{read} AND {theirs}", f"{write} AND {theirs}"
    protect(table, select=read, insert=write, update=write, delete=write)
    grant("SELECT, INSERT, UPDATE, DELETE", table)


def grant(privileges: str, table: str) -> None:
    op.execute(f"GRANT {privileges} ON {table} TO {quoted(roles().app)}")


def allow(function: str, *, ops: bool = False) -> None:
    """Let the application role (or, with ``ops``, the ops role alone) execute ``function(argument types)``."""
    who = roles()
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {quoted(who.ops if ops else who.app)}")
