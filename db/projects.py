"""Queries of the projects family. Each takes a connection inside a caller's transaction; the policies do the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database
    from db.principal import Principal

SETTINGS: Final = (
    "name",
    "instructions",
    "model",
    "base_url",
    "max_input_tokens",
    "tool_call_limit",
    "allow_prompt_override",
    "model_parameters",
    "approval_policy",
    "retention_days",
    "registry_public",
    "registry_namespace",
)
_COLUMNS: Final = f"id, {', '.join(SETTINGS)}, created_at, updated_at"


@traced
async def fetch(connection: Connection, project_id: UUID) -> asyncpg.Record | None:
    """The project with all its settings; ``None`` without one that the caller can see."""
    return await connection.fetchrow(f"SELECT {_COLUMNS} FROM projects WHERE id = $1", project_id)  # noqa: S608  fixed text


@traced
async def read(database: Database, principal: Principal, project_id: UUID) -> asyncpg.Record | None:
    """One project in one round trip, outside any transaction."""
    rows = await database.read("read_project", principal, project_id)
    return rows[0] if rows else None


@traced
async def page(
    connection: Connection, user_id: UUID, *, only: UUID | None, before: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Up to ``limit`` projects of the user, newest first, older than ``before``; ``only`` narrows to a single one."""
    return await connection.fetch(
        "SELECT id, name, role, created_at FROM page_of_projects($1, $2, $3, $4)",
        *(user_id, only, before, limit),
    )


@traced
async def insert(connection: Connection, project_id: UUID, created_by: UUID, settings: Mapping[str, Any]) -> None:
    """Insert a project; the database makes ``created_by`` its owner. ``settings``: columns of ``SETTINGS``."""
    names = _known(settings)
    places = ", ".join(f"${number}" for number in range(1, len(names) + 3))
    await connection.execute(
        f"INSERT INTO projects ({', '.join(('id', 'created_by', *names))}) VALUES ({places})",  # noqa: S608  known names
        *(project_id, created_by, *(settings[name] for name in names)),
    )


@traced
async def update(connection: Connection, project_id: UUID, changes: Mapping[str, Any]) -> bool:
    """Change the given columns; false when the caller may not or there is no such project."""
    names = _known(changes)
    assignments = ", ".join(f"{name} = ${number}" for number, name in enumerate(names, 2))
    status = await connection.execute(
        f"UPDATE projects SET {assignments}, updated_at = now() WHERE id = $1",  # noqa: S608  known names
        *(project_id, *(changes[name] for name in names)),
    )
    return status == "UPDATE 1"


@traced
async def administered(connection: Connection, project_id: UUID) -> bool:
    """Whether the caller is owner or admin of the transaction's project and may write."""
    return bool(await connection.fetchval("SELECT administered_project() = $1", project_id))


@traced
async def owned(connection: Connection, project_id: UUID) -> bool:
    """Whether the caller is an owner of the transaction's project and may write."""
    return bool(await connection.fetchval("SELECT owned_project() = $1", project_id))


@traced
async def contents(connection: Connection, project_id: UUID) -> dict[str, int]:
    """How much of what a person would miss the project holds."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM threads WHERE project_id = $1) AS thread,"
        " (SELECT count(*) FROM runs WHERE project_id = $1) AS run,"
        " (SELECT count(*) FROM project_members WHERE project_id = $1) AS member",
        project_id,
    )
    return dict(row.items()) if row else {}


async def delete(connection: Connection, project_id: UUID) -> bool:
    """Delete the project and every row in it; false when the caller may not or there is no such project."""
    return await connection.execute("DELETE FROM projects WHERE id = $1", project_id) == "DELETE 1"


def _known(settings: Mapping[str, Any]) -> list[str]:
    return [name for name in SETTINGS if name in settings]
