"""Whether a live database's catalog still says what the migrations said: row-level security on every table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.roles import Connection

POLICIES = frozenset({"app_select", "app_insert", "app_update", "app_delete", "owner_all"})


async def catalog_faults(connection: Connection) -> list[str]:
    """One sentence a fault. Any role may ask: the catalog is readable by all."""
    rows = await connection.fetch(
        """
        SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
               coalesce(array_agg(p.polname::text) FILTER (WHERE p.polname IS NOT NULL), '{}') AS policies
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_policy p ON p.polrelid = c.oid
        WHERE n.nspname IN ('public', 'ops') AND c.relkind IN ('r', 'p')
        GROUP BY c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity ORDER BY c.relname"""
    )
    faults = [] if rows else ["There are no tables: run 'innkeeper migrate'."]
    for row in rows:
        if not (row["enabled"] and row["forced"]):
            faults.append(f"Table {row['name']} does not force row-level security: restore that before serving anyone.")
        if missing := POLICIES.difference(row["policies"]):
            faults.append(f"Table {row['name']} has lost the policies {', '.join(sorted(missing))}: migrate anew.")
        if strange := set(row["policies"]) - POLICIES:
            faults.append(f"Table {row['name']} has policies that no migration made: {', '.join(sorted(strange))}.")
    return faults
