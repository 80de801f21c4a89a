"""What becomes of files without a caller: objects of deleted files go, uploads and temporary files have their time, and
what a store reports of itself is looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from db import files, storekeeping
from db.errors import AppError
from db.jobs import enqueue_for
from db.storekeeping import DELETE
from server.jobs.job import JobCall
from tools import arrivals
from tools.ports import StorageRules

BATCH: Final = 500


def rules_of(job: JobCall) -> StorageRules:
    return job.services.dispatch.services.storage


def longest_ticket(rules: StorageRules) -> timedelta:
    """After which every upload ticket of a file is void: none is good for longer than the file is waited for."""
    return timedelta(seconds=rules.pending_seconds + rules.ticket_seconds)


async def expire_files(job: JobCall) -> None:
    """The house's own: have each project look for files whose time has come."""
    async with job.services.database.ops() as connection:
        due = await storekeeping.due_projects(connection, BATCH)
        for project_id in due:
            await enqueue_for(connection, project_id, DELETE, {}, dedupe=DELETE)


async def delete_files(job: JobCall) -> None:
    """Remove the objects of a project's deleted and expired files, then their rows. Done twice, it is done once."""
    store, done = job.services.store, 0
    sealed_before = datetime.now(UTC) - longest_ticket(rules_of(job))
    while True:
        async with job.transaction() as connection:
            await storekeeping.mark_due(connection, BATCH)
            rows = await storekeeping.being_deleted(connection, BATCH)
        if not rows:
            return
        for row in rows:
            key = files.key_of(row)
            if row["upload_id"] is not None:
                await store.abort_multipart(key, row["upload_id"])
            elif row["created_at"] > sealed_before:
                await store.seal(key)
        await store.delete([files.key_of(row) for row in rows])
        async with job.transaction() as connection:
            await storekeeping.forget(connection, [row["id"] for row in rows])
        done += len(rows)
        await job.progress(done)


async def file_arrived(job: JobCall) -> None:
    """The store says that an upload has come: confirm it, as its client would, if it is what was announced."""
    row = await _row(job)
    if row is None or row["status"] != "pending":
        return
    try:
        arrival = await arrivals.checked(job.services.store, row, _silent)
    except AppError as error:
        if error.code != "upload_differs":
            raise
        return  # its client hears of it
    if arrival.whole:
        keep = timedelta(seconds=rules_of(job).temporary_seconds)
        try:
            async with job.transaction() as connection:
                await files.make_ready(connection, row["id"], sha256=arrival.sha256, keep=keep)
        except asyncpg.UniqueViolationError:
            return  # another file has its path


async def file_removed(job: JobCall) -> None:
    """The store says that an object has gone: if so, so is the file."""
    row = await _row(job)
    if row is not None and row["status"] == "ready" and await job.services.store.head(files.key_of(row)) is None:
        async with job.transaction() as connection:
            await storekeeping.mark_lost(connection, [row["id"]])


async def _row(job: JobCall) -> asyncpg.Record | None:
    file_id: UUID = job.uuid("file_id")
    async with job.transaction() as connection:
        return await files.fetch(connection, file_id)


async def _silent(_done: float, _total: float | None, _what: str | None) -> None:
    """Nobody waits."""
