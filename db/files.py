"""Queries of the storage family. A row is written before anything reaches the store, and goes after its object went.

Each function with a connection runs inside a transaction of its caller (or of a job); the policies do the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database
    from db.principal import Principal

LASTING: Final = "files/"
TEMPORARY: Final = "temporary/"
INCOMING: Final = "incoming/"
"""Before the key of what an upload brought to a bucket, until it is accepted."""
FIRST: Final = UUID(int=0)
LAST: Final = "\U0010ffff"
"""Behind every path: no text has this character, it is none."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that is about to be uploaded. ``seconds``: how long it is waited for."""

    id: UUID
    path: str
    size: int
    content_type: str
    sha256: bytes | None
    temporary: bool
    metadata: Mapping[str, str]
    seconds: int


@dataclass(frozen=True, slots=True)
class Added:
    """``outcome``: ``added``, ``project_not_found``, ``role_insufficient``, ``path_taken`` or ``quota_exceeded``: all
    but the first are for the caller to roll back. ``used`` and ``quota`` in bytes, this file included."""

    outcome: str
    used: int
    quota: int
    added_at: datetime
    due_at: datetime


def key(project_id: UUID, file_id: UUID, *, temporary: bool) -> str:
    """The name of a file's object in the store. Temporary ones stand apart, so that a store can expire them itself."""
    return f"{TEMPORARY if temporary else LASTING}{project_id}/{file_id}"


def key_of(row: asyncpg.Record) -> str:
    return key(row["project_id"], row["id"], temporary=row["temporary"])


def ids(name: str) -> tuple[UUID, UUID] | None:
    """The project and the file of an object; ``None`` for an object that is not ours."""
    kind, _, rest = name.partition("/")
    project, _, file = rest.partition("/")
    try:
        found = UUID(project), UUID(file)
    except ValueError:
        return None
    temporary = f"{kind}/" == TEMPORARY
    return found if key(*found, temporary=temporary) == name else None


def below(prefix: str) -> str:
    """The first text, byte by byte, behind all that begin with ``prefix``."""
    rest = prefix.rstrip(LAST)
    if not rest:
        return LAST
    following = ord(rest[-1]) + 1
    return rest[:-1] + chr(0xE000 if following == 0xD800 else following)


@traced
async def add(
    connection: Connection, principal: Principal, project_id: UUID, expected: Expected, *, default_quota: int
) -> Added:
    """Announce a file, in the caller's transaction; ``default_quota`` in bytes, of projects without their own."""
    row = await connection.fetchrow(
        "SELECT * FROM add_file($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        *(project_id, expected.id, expected.path, expected.size, expected.content_type, expected.sha256),
        *(expected.temporary, expected.seconds, dict(expected.metadata)),
        *(principal.user_id, principal.credential_id, principal.run_id, default_quota),
    )
    assert row is not None  # noqa: S101  a function with OUT parameters always gives one row
    return Added(*row)


@traced
async def read(database: Database, principal: Principal, project_id: UUID, file_id: UUID) -> asyncpg.Record | None:
    """One file in one round trip, outside any transaction."""
    rows = await database.read("read_file", principal, project_id, file_id)
    return rows[0] if rows else None


@traced
async def page(
    database: Database,
    principal: Principal,
    project_id: UUID,
    *,
    prefix: str,
    after: tuple[str, UUID] | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Up to ``limit`` files whose path begins with ``prefix``, in the order of their paths, in one round trip."""
    path, file_id = after if after is not None and after[0] >= prefix else (prefix, FIRST)
    return await database.read("read_files", principal, project_id, path, file_id, below(prefix), limit)


@traced
async def fetch(connection: Connection, file_id: UUID) -> asyncpg.Record | None:
    """The file, held until the end of the transaction: nobody else changes it meanwhile. Not while it is deleted."""
    return await connection.fetchrow(
        "SELECT * FROM files WHERE id = $1 AND project_id = (SELECT readable_project()) AND status <> 'deleting'"
        " FOR UPDATE",
        file_id,
    )


@traced
async def writable(connection: Connection, project_id: UUID) -> bool | None:
    """Whether the caller may change files of the project; ``None`` when it may not even read it."""
    readable, may = await connection.fetchrow(  # type: ignore[misc]  # one row, always
        "SELECT readable_project() = $1, writable_project() = $1", project_id
    )
    return bool(may) if readable else None


@traced
async def make_ready(
    connection: Connection, file_id: UUID, *, sha256: bytes | None, keep: timedelta
) -> asyncpg.Record | None:
    """The object is there and as it was announced. ``keep``: how long, if the file is temporary. Raises asyncpg's
    ``UniqueViolationError`` when another file has become ready at the path."""
    return await connection.fetchrow(
        "UPDATE files SET status = 'ready', sha256 = coalesce(sha256, $2), upload_id = NULL, updated_at = now(),"
        " expires_at = CASE WHEN temporary THEN now() + $3::interval END"
        " WHERE id = $1 AND project_id = (SELECT writable_project()) AND status IN ('pending', 'lost') RETURNING *",
        *(file_id, sha256, keep),
    )


@traced
async def remember_upload(connection: Connection, file_id: UUID, upload_id: str) -> str | None:
    """Note the store's name of an upload in parts; gives the one that is noted, which may be another's."""
    found: str | None = await connection.fetchval(
        "UPDATE files SET upload_id = coalesce(upload_id, $2) WHERE id = $1 AND status = 'pending'"
        " AND project_id = (SELECT writable_project()) RETURNING upload_id",
        *(file_id, upload_id),
    )
    return found


@traced
async def start_deleting(connection: Connection, file_id: UUID) -> None:
    """Take a file away from callers and from the quota; its object goes later."""
    await connection.execute(
        "UPDATE files SET status = 'deleting', updated_at = now() WHERE id = $1 AND status <> 'deleting'"
        " AND project_id = (SELECT writable_project())",
        file_id,
    )


@traced
async def holding(connection: Connection, project_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the caller's projects that have files, outside any project."""
    rows = await connection.fetch("SELECT * FROM projects_with_files($1)", list(project_ids))
    return frozenset(row[0] for row in rows)


@traced
async def ready_at(connection: Connection, path: str) -> UUID | None:
    """The ready file at a path; one of nobody in particular before those of end users."""
    found: UUID | None = await connection.fetchval(
        "SELECT id FROM files WHERE project_id = (SELECT readable_project()) AND path = $1 AND status = 'ready'"
        " ORDER BY end_user_id NULLS FIRST LIMIT 1",
        path,
    )
    return found
