"""Queries of what components mean: the vectors beside them, for the job that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection


@traced
async def lacking(connection: Connection, model: str, limit: int) -> list[asyncpg.Record]:
    """Components that may be found and have no vector of ``model``, with their words."""
    return await connection.fetch(
        "SELECT id, words FROM components WHERE project_id = (SELECT readable_project()) AND latest_id IS NOT NULL"
        " AND (embedding IS NULL OR embedding_model IS DISTINCT FROM $1) ORDER BY id LIMIT $2",
        *(model, limit),
    )


@traced
async def keep(connection: Connection, component_id: UUID, words: str, vector: Sequence[float], model: str) -> None:
    """The vector of ``words``, if they are still what the component says."""
    await connection.execute(
        "UPDATE components SET embedding = $3, embedding_model = $4"
        " WHERE project_id = (SELECT writable_project()) AND id = $1 AND words = $2",
        *(component_id, words, list(vector), model),
    )


async def projects_lacking(connection: Connection, model: str, after: UUID | None, limit: int) -> list[UUID]:
    """As the ops role: projects that have such components."""
    rows = await connection.fetch("SELECT * FROM projects_without_meanings($1, $2, $3)", model, after, limit)
    return [row[0] for row in rows]
