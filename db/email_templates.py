"""Queries of the templates that projects keep for their mail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

_HERE: Final = "project_id = (SELECT readable_project())"


@traced
async def put(
    connection: Connection, project_id: UUID, name: str, *, subject: str, text: str | None, html: str | None
) -> asyncpg.Record:
    """Keep a template under its name, in place of the one that had it."""
    row = await connection.fetchrow(
        "INSERT INTO email_templates (project_id, id, name, subject, text, html) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (project_id, name) DO UPDATE SET subject = $4, text = $5, html = $6, updated_at = now()"
        " RETURNING *",
        *(project_id, uuid7(), name, subject, text, html),
    )
    assert row is not None  # noqa: S101  RETURNING gives the row that was written
    return row


@traced
async def find(connection: Connection, name: str) -> asyncpg.Record | None:
    """The project's template of this name with all its columns, or ``None``."""
    return await connection.fetchrow(f"SELECT * FROM email_templates WHERE {_HERE} AND name = $1", name)  # noqa: S608  fixed text


@traced
async def page(connection: Connection, *, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` templates, newest first, older than ``before``."""
    return await connection.fetch(
        f"SELECT * FROM email_templates WHERE {_HERE} AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2",  # noqa: S608  fixed text
        *(before, limit),
    )


@traced
async def delete(connection: Connection, name: str) -> UUID | None:
    """The id of the template that was deleted; ``None`` without one that the caller may delete."""
    found: UUID | None = await connection.fetchval(
        "DELETE FROM email_templates WHERE name = $1 AND project_id = (SELECT writable_project()) RETURNING id", name
    )
    return found
