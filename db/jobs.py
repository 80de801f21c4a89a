"""Work for later: a job is added in the transaction that wants it, and exists if and only if that commits.

A job is a kind and ids; what it works with is read from rows when it runs. Who works on it and how: ``server.jobs``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

from opentelemetry import propagate

from db.spans import active, traced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from db.database import Connection


@traced
async def enqueue(
    connection: Connection,
    kind: str,
    payload: Mapping[str, UUID | int],
    *,
    dedupe: str | None = None,
    at: datetime | None = None,
) -> int:
    """Add a job of the tenant of this transaction, and answer its id.

    The database takes project, end user, user and credential from the transaction and checks that it may write there;
    without a project the job is the user's. A job with the same kind, tenant and ``dedupe`` that is not over yet is
    answered instead: it keeps its payload, comes no later than ``at``, and once more if it has begun already.
    """
    job = await connection.fetchval(
        "SELECT ops.enqueue($1, $2::text::jsonb, $3, $4, $5)", kind, _ids(payload), dedupe, at, _trace()
    )
    return int(job)


@traced
async def enqueue_for(
    connection: Connection,
    project_id: UUID | None,
    kind: str,
    payload: Mapping[str, UUID | int],
    *,
    dedupe: str | None = None,
    at: datetime | None = None,
) -> int | None:
    """Add a job of a project on a connection of the ops role, for what comes without a caller: a webhook, a schedule.

    ``None`` for ``project_id`` is the house itself. Answers ``None`` when there is no such project (any more).
    """
    job = await connection.fetchval(
        "SELECT ops.enqueue_for($1, $2, $3::text::jsonb, $4, $5, $6)",
        *(project_id, kind, _ids(payload), dedupe, at, _trace()),
    )
    return None if job is None else int(job)


def _ids(payload: Mapping[str, UUID | int]) -> str:
    return json.dumps({name: str(value) if isinstance(value, UUID) else value for name, value in payload.items()})


def _trace() -> str | None:
    """The W3C ``traceparent`` of whoever adds the job, so that its span is a child of theirs."""
    if not active():
        return None
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")
