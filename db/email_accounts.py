"""Queries of the accounts that projects have with the mail provider, and of their sealed secrets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

SEALED: Final = "email_secrets.sealed"
"""Where the secrets are kept, as the vault binds them; the row is told apart by its kind."""
Secret: TypeAlias = Literal["api_key", "webhook_secret"]
_HERE: Final = "project_id = (SELECT readable_project())"


@traced
async def fetch(connection: Connection) -> asyncpg.Record | None:
    """Sender, domains and what may be shown of the secrets of the project's account."""
    return await connection.fetchrow(
        "SELECT a.sender, a.domains, k.hint AS key_hint, k.created_at AS entered_at, w.id IS NOT NULL AS has_webhook"
        " FROM email_accounts a JOIN email_secrets k ON k.project_id = a.project_id AND k.kind = 'api_key'"
        " LEFT JOIN email_secrets w ON w.project_id = a.project_id AND w.kind = 'webhook_secret'"
        " WHERE a.project_id = (SELECT readable_project())"
    )


@traced
async def sealed_key(connection: Connection) -> bytes | None:
    """The key of the project's account, if it has one."""
    found: bytes | None = await connection.fetchval(
        f"SELECT sealed FROM email_secrets WHERE {_HERE} AND kind = 'api_key'"  # noqa: S608  fixed text
    )
    return found


@traced
async def put(connection: Connection, project_id: UUID, sender: str, domains: Sequence[str]) -> None:
    """The project sends as ``sender``, and may as anybody at ``domains``."""
    await connection.execute(
        "INSERT INTO email_accounts (project_id, sender, domains) VALUES ($1, $2, $3)"
        " ON CONFLICT (project_id) DO UPDATE SET sender = $2, domains = $3, updated_at = now()",
        *(project_id, sender, list(domains)),
    )


@traced
async def put_secret(
    connection: Connection, project_id: UUID, kind: Secret, sealed: bytes, *, hint: str, created_by: UUID
) -> None:
    """In the place of the one there may be."""
    await connection.execute(
        "INSERT INTO email_secrets (project_id, id, kind, sealed, hint, created_by) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (project_id, kind) DO UPDATE SET id = $2, sealed = $4, hint = $5, created_by = $6,"
        " created_at = now()",
        *(project_id, uuid7(), kind, sealed, hint, created_by),
    )


async def delete(connection: Connection, project_id: UUID) -> bool:
    """From now on the project's mail goes by the house's account again."""
    await connection.execute("DELETE FROM email_secrets WHERE project_id = $1", project_id)
    return await connection.execute("DELETE FROM email_accounts WHERE project_id = $1", project_id) == "DELETE 1"
