"""The provider keys of a project, sealed by who calls; the policies let its owners and admins write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database
    from db.principal import Principal

PROVIDERS: Final = ("openai", "anthropic", "google", "groq", "mistral", "compatible")
"""``compatible``: the OpenAI-compatible endpoint at the ``base_url`` that the key was entered for."""
SEALED: Final = "provider_keys.sealed"
"""Where they are kept, as the vault binds them; the row is told apart by its provider."""


@traced
async def latest(connection: Connection, project_id: UUID) -> list[asyncpg.Record]:
    """What may be shown of each, by provider."""
    return await connection.fetch(
        "SELECT id, provider, base_url, hint, created_by, created_at, checked_at FROM provider_keys"
        " WHERE project_id = $1 ORDER BY provider",
        project_id,
    )


@traced
async def read(database: Database, principal: Principal, project_id: UUID, provider: str) -> asyncpg.Record | None:
    """``base_url`` and ``sealed`` of one, in one round trip, outside any transaction."""
    rows = await database.read("read_provider_key", principal, project_id, provider)
    return rows[0] if rows else None


@traced
async def put(
    connection: Connection,
    project_id: UUID,
    provider: str,
    *,
    key_id: UUID,
    base_url: str | None,
    sealed: bytes,
    hint: str,
    created_by: UUID,
    checked: bool,
) -> None:
    """In the place of the one there may be. ``hint``: at most the last four characters. Who may not write is refused by
    the database (``InsufficientPrivilegeError``)."""
    await connection.execute(
        "INSERT INTO provider_keys (project_id, id, provider, base_url, sealed, hint, created_by, checked_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END)"
        " ON CONFLICT (project_id, provider) DO UPDATE SET id = excluded.id, base_url = excluded.base_url,"
        " sealed = excluded.sealed, hint = excluded.hint, created_by = excluded.created_by, created_at = now(),"
        " checked_at = excluded.checked_at",
        *(project_id, key_id, provider, base_url, sealed, hint, created_by, checked),
    )


async def delete(connection: Connection, project_id: UUID, provider: str) -> UUID | None:
    """The id of the key that is gone; ``None`` when there was none, or when the caller may not delete it."""
    deleted: UUID | None = await connection.fetchval(
        "DELETE FROM provider_keys WHERE project_id = $1 AND provider = $2 RETURNING id", project_id, provider
    )
    return deleted
