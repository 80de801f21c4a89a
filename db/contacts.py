"""Queries of those a project writes to: contacts, and addresses it may not write to any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

_HERE: Final = "project_id = (SELECT readable_project())"
_COLUMNS: Final = "id, address, name, fields, subscribed, unsubscribed_at, created_at, updated_at"


@traced
async def put(
    connection: Connection, project_id: UUID, address: str, name: str | None, fields: Mapping[str, Any]
) -> asyncpg.Record:
    """Add a contact, or change the one with that address: fields are merged, and who unsubscribed stays so."""
    row = await connection.fetchrow(
        "INSERT INTO contacts AS c (project_id, id, address, name, fields)"  # noqa: S608  fixed text
        " VALUES ($1, $2, $3, coalesce($4, ''), $5)"
        " ON CONFLICT (project_id, address) DO UPDATE SET name = coalesce($4, c.name), fields = c.fields || $5,"
        f" updated_at = now() RETURNING {_COLUMNS}",
        *(project_id, uuid7(), address, name, dict(fields)),
    )
    assert row is not None  # noqa: S101  RETURNING gives the row that was written
    return row


@traced
async def find(connection: Connection, address: str) -> asyncpg.Record | None:
    """The contact with this address; ``None`` without one that the caller can see."""
    return await connection.fetchrow(f"SELECT {_COLUMNS} FROM contacts WHERE {_HERE} AND address = $1", address)  # noqa: S608  fixed text


@traced
async def page(
    connection: Connection, *, subscribed: bool | None, before: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Up to ``limit`` contacts, newest first, older than ``before``."""
    return await connection.fetch(
        f"SELECT {_COLUMNS} FROM contacts WHERE {_HERE} AND ($1::boolean IS NULL OR subscribed = $1)"  # noqa: S608  fixed text
        " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        *(subscribed, before, limit),
    )


@traced
async def subscribe(connection: Connection, address: str, *, subscribed: bool) -> asyncpg.Record | None:
    """Whether a contact gets mail for an audience from now on; ``None`` when there is no such contact."""
    return await connection.fetchrow(
        "UPDATE contacts SET subscribed = $2, updated_at = now(), unsubscribed_at ="  # noqa: S608  fixed text
        " CASE WHEN $2 THEN NULL ELSE coalesce(unsubscribed_at, now()) END"
        f" WHERE address = $1 AND project_id = (SELECT writable_project()) RETURNING {_COLUMNS}",
        *(address, subscribed),
    )


@traced
async def suppressions(connection: Connection, *, after: str, limit: int) -> list[asyncpg.Record]:
    """Up to ``limit`` suppressed addresses, in their order, after ``after``."""
    return await connection.fetch(
        f"SELECT address, reason, created_at FROM suppressions WHERE {_HERE} AND address > $1"  # noqa: S608  fixed text
        " ORDER BY address LIMIT $2",
        *(after, limit),
    )


@traced
async def lift(connection: Connection, address: str) -> bool:
    """Let the project write to an address again. False: it was not suppressed."""
    lifted = await connection.fetchval(
        "DELETE FROM suppressions WHERE address = $1 AND project_id = (SELECT writable_project()) RETURNING true",
        address,
    )
    return bool(lifted)
