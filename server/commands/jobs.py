"""``innkeeper jobs``: the work that is outside of requests, from the operator's side."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from db import job_queue
from db.job_queue import JobRow
from server.commands.reading import read_settings
from server.owner import owned_database
from server.refusal import Refusal
from server.roles import connect
from server.terminal import progress, put, put_all

if TYPE_CHECKING:
    from server.roles import Connection

OPS = "DATABASE_OPS_URL"


def run(arguments: Namespace) -> int:
    return asyncio.run(_list(arguments) if arguments.action == "list" else _retry(arguments))


async def _list(arguments: Namespace) -> int:
    async with _as_ops(arguments) as connection:
        jobs = await job_queue.page(
            connection,
            state=arguments.state,
            kind=arguments.kind,
            project_id=arguments.project,
            before=arguments.before,
            limit=arguments.limit,
        )
    if arguments.json:
        put(json.dumps([asdict(job) for job in jobs], default=_plain))
    else:
        put_all(map(_line, jobs))
    return 0


async def _retry(arguments: Namespace) -> int:
    if bool(arguments.ids) == bool(arguments.kind):
        raise Refusal("Name the jobs to retry by id, or all dead ones of a kind by --kind.")
    async with _as_ops(arguments) as connection:
        retried = await job_queue.retry(connection, jobs=arguments.ids, kind=arguments.kind)
    if arguments.json:
        put(json.dumps(retried))
    else:
        put(f"Begun anew: {', '.join(map(str, retried)) or 'none'}.")
    if others := sorted(set(arguments.ids) - set(retried)):
        raise Refusal(f"Neither dead nor waiting: {', '.join(map(str, others))}. See 'innkeeper jobs list'.")
    return 0


@asynccontextmanager
async def _as_ops(arguments: Namespace) -> AsyncIterator[Connection]:
    """The database of ``DATABASE_OPS_URL``; with ``--data`` or without that variable, of the data directory."""
    settings = read_settings(environment="development")
    named = settings.database.ops_url
    if named is not None and arguments.data is None:
        async with connect(named.get_secret_value(), OPS) as connection:
            yield connection
        return
    async with owned_database(settings, arguments.data, progress()) as urls:
        if urls.ops is None:
            raise Refusal(f"Set {OPS}: jobs are seen by the ops role.")
        async with connect(urls.ops, OPS) as connection:
            yield connection


def _line(job: JobRow) -> str:
    whose = f"project {job.project_id}" if job.project_id else f"user {job.user_id}" if job.user_id else "house"
    words = [str(job.id), f"{job.kind:<20}", f"{job.state:<9}", f"attempts {job.attempts}", whose]
    if job.state == "scheduled":
        words.append(f"in {_span((job.due_at - datetime.now(UTC)).total_seconds())}")
    if job.progress_done is not None:
        words.append(f"at {job.progress_done}" + ("" if job.progress_total is None else f" of {job.progress_total}"))
    if job.error_code is not None:
        words.append(f"{job.error_code}: {job.error_message}")
    return "  ".join(words)


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not printed")
