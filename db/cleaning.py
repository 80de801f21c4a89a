"""Removes what has had its time: answers of writes, links and sessions after a day, approvals after 30 when used."""

from __future__ import annotations

from typing import Final

from db.database import Database

BATCH: Final = 1000


async def clean_up(database: Database) -> int:
    """Remove all that is due, as the ops role, a batch a transaction; answers how many rows. Any number of processes
    may do so at once. Raises ``AppError`` without an ops role or a database."""
    removed = 0
    while True:
        async with database.ops() as connection:
            batch = int(await connection.fetchval("SELECT clean_up($1)", BATCH))
        removed += batch
        if batch < BATCH:
            return removed
