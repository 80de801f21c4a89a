"""What the registry's feed reads: of the project of a feed key, under its rights, or of a project open to everybody.

A feed key opens nothing else: the tokens of other keys have another form, and only this looks its form up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from db import components
from db.components import Search, Selection
from db.principal import Principal
from db.spans import traced
from db.tokens import FEED_KEY, is_wellformed, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Feed:
    """A registry open for reading. ``public``: to everybody; else to whoever holds a feed key of it."""

    connection: Connection
    project_id: UUID
    namespace: str
    public: bool

    @traced
    async def at(self, name: str, selection: Selection) -> asyncpg.Record | None:
        """The version of a component that is asked for."""
        if not self.public:
            return await components.at(self.connection, self.project_id, name, selection)
        return await self.connection.fetchrow(
            "SELECT * FROM public_component_at($1, $2, $3, $4, $5, $6)", self.project_id, name, *selection
        )

    @traced
    async def listed(self, search: Search) -> list[asyncpg.Record]:
        """Components with what their newest version is, best first; ``total``: of all there are."""
        if not self.public:
            return await components.search(self.connection, self.project_id, search)
        return await self.connection.fetch(
            "SELECT * FROM public_components($1, $2, $3, $4, $5)",
            *(self.project_id, search.query, search.type, search.skip, search.limit),
        )


@asynccontextmanager
async def public(database: Database, project_id: UUID) -> AsyncIterator[Feed | None]:
    """The registry of a project as everybody may read it; ``None`` for one that is not public, or no project."""
    async with database.system() as connection:
        namespace = await connection.fetchval("SELECT namespace FROM public_registry($1)", project_id)
        yield None if namespace is None else Feed(connection, project_id, namespace, public=True)


@asynccontextmanager
async def keyed(database: Database, caller: Principal) -> AsyncIterator[Feed | None]:
    """The registry of the project that a feed key is of; ``None`` when the project is gone."""
    if caller.project_id is None:
        yield None
        return
    async with database.transaction(caller, caller.project_id, read_only=True) as connection:
        found = await components.registry(connection, caller.project_id)
        yield None if found is None else Feed(connection, caller.project_id, found.namespace, public=False)


@traced
async def caller(database: Database, token: str) -> Principal | None:
    """Who holds a live feed key; ``None`` for everything else, keys of other kinds among it."""
    if not is_wellformed(token, FEED_KEY):
        return None
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM authenticate($1)", token_hash(token))
    if row is None or row["kind"] != "feed":
        return None
    return Principal(
        credential_id=row["credential_id"],
        user_id=row["user_id"],
        project_id=row["project_id"],
        end_user_id=None,
        scopes=frozenset(row["scopes"]),
        kind="feed",
        read_only=True,
    )
