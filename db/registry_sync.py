"""Queries of sources and syncs. A sync fetches and checks with its items staged, and publishes them in one transaction.

Each function with a connection runs inside a transaction of its caller or of a job, except those for the ops role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from db.components import Release
from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection
    from db.principal import Principal

SECRET: Final = "registry_sources.secret"  # noqa: S105  where secrets are, not one
_SOURCE: Final = "id, url, kind, created_by, credential_id, created_at, secret_at"
_STAGED: Final = (
    "name, version_id, component_id, version, precedence, hash, type, title, description, words, item, props, state,"
    " size, sums, sizes, own"
)


class Webhook(NamedTuple):
    """Whose a webhook is; ``secret``: sealed."""

    project_id: UUID
    secret: bytes


class Requested(NamedTuple):
    """``fresh``: whether the sync is new, not one of a delivery that came before."""

    project_id: UUID
    sync_id: UUID
    fresh: bool


@dataclass(frozen=True, slots=True)
class Staged:
    """An item that is ready to be published, and what it needs of its registry."""

    release: Release
    own: Sequence[str]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a sync ended. ``changes``: name and version of what was published, the first of them; ``faults``: where and
    what, likewise."""

    state: str
    published: int = 0
    unchanged: int = 0
    changes: Sequence[Mapping[str, str]] = ()
    faults: Sequence[Mapping[str, str]] = ()
    error_code: str | None = None
    error_message: str | None = None


# As the ops role, for webhooks.


@traced
async def webhook(connection: Connection, source_id: UUID) -> Webhook | None:
    """Ops. What a delivery for this source is checked with; ``None`` without such a source."""
    row = await connection.fetchrow("SELECT * FROM registry_webhook($1)", source_id)
    return None if row is None else Webhook(*row)


@traced
async def request(connection: Connection, source_id: UUID, delivery: str) -> Requested | None:
    """Ops. Ask for a sync because of a webhook, known by the sender's name for it; ``None`` without such a source."""
    row = await connection.fetchrow("SELECT * FROM request_registry_sync($1, $2, $3)", source_id, uuid7(), delivery)
    return None if row is None else Requested(*row)


# As a caller.


@traced
async def add_source(connection: Connection, principal: Principal, project_id: UUID, url: str, kind: str) -> UUID:
    """Raises asyncpg's ``UniqueViolationError`` for a source that is there already."""
    source_id = uuid7()
    await connection.execute(
        "INSERT INTO registry_sources (project_id, id, url, kind, created_by, credential_id)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        *(project_id, source_id, url, kind, principal.user_id, principal.credential_id),
    )
    return source_id


@traced
async def sources(connection: Connection, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Sources, the newest first, each with the state of its last sync."""
    return await connection.fetch(
        f"SELECT {_SOURCE}, (SELECT y.state FROM registry_syncs y WHERE y.project_id = s.project_id"  # noqa: S608  fixed
        " AND y.source_id = s.id ORDER BY y.id DESC LIMIT 1) AS last_sync FROM registry_sources s"
        " WHERE project_id = (SELECT readable_project()) AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2",
        *(after, limit),
    )


@traced
async def source(connection: Connection, source_id: UUID) -> asyncpg.Record | None:
    """The source without its secret; ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        f"SELECT {_SOURCE} FROM registry_sources"  # noqa: S608  fixed
        " WHERE project_id = (SELECT readable_project()) AND id = $1",
        source_id,
    )


@traced
async def remove_source(connection: Connection, source_id: UUID) -> None:
    """Delete a source with the reports of its syncs, where the caller may."""
    await connection.execute(
        "DELETE FROM registry_sources WHERE project_id = (SELECT administered_project()) AND id = $1", source_id
    )


@traced
async def add_sync(connection: Connection, project_id: UUID, source_id: UUID) -> UUID:
    """A sync that somebody asked for."""
    sync_id = uuid7()
    await connection.execute(
        "INSERT INTO registry_syncs (project_id, id, source_id) VALUES ($1, $2, $3)", project_id, sync_id, source_id
    )
    return sync_id


@traced
async def sync(connection: Connection, sync_id: UUID) -> asyncpg.Record | None:
    """A sync with its report; ``None`` without one that the caller can see."""
    return await connection.fetchrow(
        "SELECT * FROM registry_syncs WHERE project_id = (SELECT readable_project()) AND id = $1", sync_id
    )


@traced
async def syncs(connection: Connection, source_id: UUID, after: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Syncs of a source, the newest first."""
    return await connection.fetch(
        "SELECT * FROM registry_syncs WHERE project_id = (SELECT readable_project()) AND source_id = $1"
        " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        *(source_id, after, limit),
    )


# As a job.


@traced
async def begin(connection: Connection, source_id: UUID) -> UUID | None:
    """Begin the last sync that is waiting, or begin again the one that was cut off; those before it are superseded by
    it. ``None`` when nothing waits. What was staged before is gone."""
    sync_id: UUID | None = await connection.fetchval(
        "SELECT id FROM registry_syncs WHERE project_id = (SELECT writable_project()) AND source_id = $1"
        " AND state IN ('queued', 'running') ORDER BY id DESC LIMIT 1 FOR UPDATE",
        source_id,
    )
    if sync_id is None:
        return None
    await connection.execute(
        "UPDATE registry_syncs SET state = CASE WHEN id = $2 THEN 'running' ELSE 'superseded' END,"
        " started_at = coalesce(started_at, now()), ended_at = CASE WHEN id <> $2 THEN now() END, done = 0"
        " WHERE project_id = (SELECT writable_project()) AND source_id = $1 AND state IN ('queued', 'running')",
        *(source_id, sync_id),
    )
    await unstage(connection, sync_id)
    return sync_id


@traced
async def progress(connection: Connection, sync_id: UUID, done: int, total: int) -> None:
    """Note how many of how many items a running sync has looked at."""
    await connection.execute(
        "UPDATE registry_syncs SET done = $2, total = $3"
        " WHERE project_id = (SELECT writable_project()) AND id = $1 AND state = 'running'",
        *(sync_id, done, total),
    )


@traced
async def stage(connection: Connection, project_id: UUID, sync_id: UUID, items: Sequence[Staged]) -> None:
    """Keep items that were fetched and checked until all of them are published."""
    await connection.executemany(
        f"INSERT INTO registry_staged (project_id, sync_id, {_STAGED})"  # noqa: S608  fixed
        f" VALUES ({', '.join(f'${number}' for number in range(1, 20))})",
        [(project_id, sync_id, *_columns(one)) for one in items],
    )


def _columns(staged: Staged) -> tuple[Any, ...]:
    one = staged.release
    return (
        *(one.name, uuid7(), uuid7(), one.version, one.precedence, one.hash, one.type, one.title, one.description),
        *(one.words, one.item, one.props, one.state, one.size, list(one.sums), list(one.sizes), list(staged.own)),
    )


@traced
async def publish_staged(
    connection: Connection, project_id: UUID, sync_id: UUID, source: asyncpg.Record, default_quota: int
) -> list[asyncpg.Record]:
    """Publish all that was staged, in the name of whoever made the source: name, outcome and version of each."""
    return await connection.fetch(
        "SELECT * FROM publish_staged($1, $2, $3, $4, $5)",
        *(project_id, sync_id, source["created_by"], source["credential_id"], default_quota),
    )


@traced
async def staged_needs(connection: Connection, sync_id: UUID) -> list[tuple[str, str]]:
    """What the staged items need of their registry, each once, with the name of an item that does."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (need) name, need FROM registry_staged, unnest(own) AS need"
        " WHERE project_id = (SELECT readable_project()) AND sync_id = $1 ORDER BY need, name",
        sync_id,
    )
    return [(row["name"], row["need"]) for row in rows]


@traced
async def unstage(connection: Connection, sync_id: UUID) -> None:
    """Drop what a sync has staged."""
    await connection.execute(
        "DELETE FROM registry_staged WHERE project_id = (SELECT writable_project()) AND sync_id = $1", sync_id
    )


@traced
async def end(connection: Connection, sync_id: UUID, ending: Ending) -> None:
    """Write down what came of a sync, and drop what it has staged."""
    await connection.execute(
        "UPDATE registry_syncs SET state = $2, published = $3, unchanged = $4, changes = $5, faults = $6,"
        " error_code = $7, error_message = $8, ended_at = now()"
        " WHERE project_id = (SELECT writable_project()) AND id = $1",
        *(sync_id, ending.state, ending.published, ending.unchanged, list(ending.changes), list(ending.faults)),
        *(ending.error_code, ending.error_message),
    )
    await unstage(connection, sync_id)
