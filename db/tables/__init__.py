"""The schema, a module a noun; importing this fills ``SQLModel.metadata`` with all of it.

Every table is under forced row-level security (``migrations/rls.py``); the hot paths use it by raw SQL.

Tenant tables have the primary key ``(project_id, id)`` and reference each other by composite keys, so a row of one
project can never point at a row of another. Enumerations are text with a CHECK (a native enum cannot be downgraded
and its ``=`` is not leakproof). Ids are UUIDv7 made by the application; what a client calls its thread or run is
``external_id``, opaque text.
"""

from db.tables import (
    accounts,
    agents,
    calls,
    credentials,
    emails,
    end_users,
    files,
    identities,
    oauth,
    projects,
    registry,
    runs,
    usage,
)

__all__ = [
    "accounts",
    "agents",
    "calls",
    "credentials",
    "emails",
    "end_users",
    "files",
    "identities",
    "oauth",
    "projects",
    "registry",
    "runs",
    "usage",
]
