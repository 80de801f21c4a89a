"""Queries of the component registry. What was published never changes; only what is said about it does.

Each function with a connection runs inside a transaction of its caller (or of a job); the policies do the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection
    from db.principal import Principal


@dataclass(frozen=True, slots=True)
class Release:
    """A version about to be published; ``version`` and ``precedence`` are ``None`` for the next patch. ``sums`` and
    ``sizes``: of the contents its files have, which are in the store already."""

    name: str
    version: str | None
    precedence: str | None
    hash: bytes
    type: str
    title: str
    description: str
    words: str
    item: str
    props: str | None
    state: str | None
    size: int
    sums: Sequence[bytes]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Published:
    """``outcome``: ``published``, ``unchanged`` (the same is there already, as ``version``), ``project_not_found``,
    ``role_insufficient``, ``version_taken`` or ``quota_exceeded``: the last four are for the caller to roll back.
    ``used`` and ``quota`` in bytes."""

    outcome: str
    id: UUID
    version: str
    published_at: datetime
    used: int
    quota: int


@dataclass(frozen=True, slots=True)
class Registry:
    """The settings of a project's registry. ``writable``: whether the caller may publish in it."""

    name: str
    public: bool
    namespace: str
    writable: bool


class Selection(NamedTuple):
    """Which version: ``exact`` (yanked or not), else the newest from ``low`` to below ``high`` that is not yanked."""

    exact: str | None
    low: str
    high: str
    prereleases: bool


@dataclass(frozen=True, slots=True)
class Search:
    """``vector`` of ``model``: what the words mean, where an embedding model is configured. ``after``: the component
    whose followers are wanted; ``skip``: how many more to leave out."""

    query: str = ""
    type: str | None = None
    vector: Sequence[float] | None = None
    model: str | None = None
    after: UUID | None = None
    skip: int = 0
    limit: int = 25


def blob_key(project_id: UUID, sha256: bytes) -> str:
    """The name of a content's object in the store."""
    return f"registry/{project_id}/{sha256.hex()}"


@traced
async def registry(connection: Connection, project_id: UUID) -> Registry | None:
    """``None`` for a project the caller may not read."""
    row = await connection.fetchrow(
        "SELECT name, registry_public, registry_namespace, writable_project() = $1 AND acting_end_user() IS NULL"
        " FROM projects WHERE id = $1 AND readable_project() = $1",
        project_id,
    )
    return None if row is None else Registry(row[0], row[1], row[2], bool(row[3]))


@traced
async def publish(
    connection: Connection, principal: Principal, project_id: UUID, release: Release, *, default_quota: int
) -> Published:
    """Publish a version, in the caller's transaction; ``default_quota`` in bytes, of projects that have none of their
    own. What came of it is in ``outcome``, to roll back unless it is ``published`` or ``unchanged``."""
    places = ", ".join(f"${number}" for number in range(1, 22))
    row = await connection.fetchrow(
        f"SELECT * FROM publish_component({places})",  # noqa: S608  numbers of places
        *(project_id, uuid7(), uuid7(), release.name, release.version, release.precedence, release.hash),
        *(release.type, release.title, release.description, release.words, release.item, release.props),
        *(release.state, release.size, list(release.sums), list(release.sizes)),
        *(principal.user_id, principal.credential_id, principal.run_id, default_quota),
    )
    assert row is not None  # noqa: S101  a function with OUT parameters always gives one row
    return Published(*row)


@traced
async def absent_blobs(connection: Connection, sums: Collection[bytes]) -> set[bytes]:
    """Those of the contents that the project does not have yet."""
    rows = await connection.fetch(
        "SELECT sha256 FROM component_blobs WHERE project_id = (SELECT readable_project()) AND sha256 = ANY($1)",
        list(sums),
    )
    return set(sums) - {row[0] for row in rows}


@traced
async def room(connection: Connection, project_id: UUID, default_quota: int) -> tuple[int, int]:
    """Bytes the project stores, and may store."""
    row = await connection.fetchrow(
        "SELECT bytes, coalesce(quota, $2) FROM project_storage WHERE project_id = $1", project_id, default_quota
    )
    return (0, default_quota) if row is None else (row[0], row[1])


@traced
async def at(connection: Connection, project_id: UUID, name: str, selection: Selection) -> asyncpg.Record | None:
    """The version of a component that is asked for."""
    return await connection.fetchrow(
        "SELECT * FROM component_at($1, $2, $3, $4, $5, $6)",
        *(project_id, name, *selection),
    )


@traced
async def versions(connection: Connection, component_id: UUID, limit: int) -> list[asyncpg.Record]:
    """Versions with their status, newest first, yanked ones among them."""
    return await connection.fetch(
        "SELECT version, status FROM component_versions WHERE project_id = (SELECT readable_project())"
        " AND component_id = $1 ORDER BY precedence DESC LIMIT $2",
        *(component_id, limit),
    )


@traced
async def search(connection: Connection, project_id: UUID, search: Search) -> list[asyncpg.Record]:
    """Components, best first, with what there is to say of their newest version and the number of all in ``total``."""
    return await connection.fetch(
        "SELECT r.id, r.name, r.total, v.type, v.title, v.description, v.version, v.status, v.reason, v.item, v.props,"
        " v.state, v.hash FROM search_components($1, $2, $3, $4, $5, $6, $7, $8) WITH ORDINALITY AS"
        " r(id, name, version_id, total, place) JOIN component_versions v"
        " ON v.project_id = (SELECT readable_project()) AND v.id = r.version_id ORDER BY r.place",
        *(project_id, search.query, search.type, None if search.vector is None else list(search.vector)),
        *(search.model, search.after, search.skip, search.limit),
    )


@traced
async def beginning_with(connection: Connection, typed: str, limit: int) -> list[str]:
    """Names of components that begin with what was typed."""
    rows = await connection.fetch(
        "SELECT name FROM components WHERE project_id = (SELECT readable_project()) AND latest_id IS NOT NULL"
        " AND starts_with(name, $1) ORDER BY name LIMIT $2",
        *(typed, limit),
    )
    return [row[0] for row in rows]


@traced
async def page(connection: Connection, after: str, limit: int) -> list[str]:
    """Names of components in their order, behind ``after``."""
    rows = await connection.fetch(
        "SELECT name FROM components WHERE project_id = (SELECT readable_project()) AND latest_id IS NOT NULL"
        " AND name > $1 ORDER BY name LIMIT $2",
        *(after, limit),
    )
    return [row[0] for row in rows]


@traced
async def hashes(connection: Connection) -> dict[str, bytes]:
    """Of every component's newest version, by its name."""
    rows = await connection.fetch(
        "SELECT c.name, v.hash FROM components c JOIN component_versions v"
        " ON v.project_id = c.project_id AND v.id = c.latest_id WHERE c.project_id = (SELECT readable_project())"
    )
    return {row["name"]: row["hash"] for row in rows}


@traced
async def set_status(connection: Connection, version_id: UUID, component_id: UUID, status: str, reason: str) -> None:
    """Set a version's status, and with it which version searches find."""
    await connection.execute(
        "UPDATE component_versions SET status = $2, reason = $3, status_at = now()"
        " WHERE id = $1 AND project_id = (SELECT writable_project())",
        *(version_id, status, reason),
    )
    await connection.execute("SELECT refresh_component(writable_project(), $1)", component_id)


@traced
async def holding(connection: Connection, project_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the caller's projects that have components, outside any project."""
    rows = await connection.fetch("SELECT * FROM projects_with_components($1)", list(project_ids))
    return frozenset(row[0] for row in rows)
