"""Whose word a project takes for who its end users are. The policies let its owners and admins write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from db.errors import not_found
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

KINDS: Final = ("issuer", "hs256", "public_key", "userinfo", "none")
Kind = Literal["issuer", "hs256", "public_key", "userinfo", "none"]
SEALED: Final = "token_sources.sealed"
"""Where secrets are kept, as the vault binds them; the row is told apart by its id."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """One of them. ``issuer`` and ``audience``: what ``iss`` and ``aud`` must say, if they are given. ``url``: of the
    issuer's key set, where it does not say itself, or of the userinfo endpoint. ``public_key``: PEM, or a JWK as JSON.
    """

    id: UUID
    kind: Kind
    issuer: str | None = None
    audience: str | None = None
    url: str | None = None
    public_key: str | None = None
    sealed: bytes | None = field(default=None, repr=False)


@traced
async def latest(connection: Connection, project_id: UUID) -> list[asyncpg.Record]:
    """What may be shown of each: everything but its secret. The oldest first."""
    return await connection.fetch(
        "SELECT id, kind, issuer, audience, url, public_key, created_by, created_at FROM token_sources"
        " WHERE project_id = $1 ORDER BY id",
        project_id,
    )


@traced
async def add(connection: Connection, project_id: UUID, source: TokenSource, created_by: UUID) -> bool:
    """False when there is one like it already. Who may not write is refused by the database
    (``InsufficientPrivilegeError``)."""
    added = await connection.execute(
        "INSERT INTO token_sources (project_id, id, kind, issuer, audience, url, public_key, sealed, created_by)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        *(project_id, source.id, source.kind, source.issuer, source.audience, source.url, source.public_key),
        *(source.sealed, created_by),
    )
    return added == "INSERT 0 1"


@traced
async def delete(connection: Connection, project_id: UUID, source_id: UUID) -> bool:
    """Take its word no more, nor the tokens that were exchanged on anybody's: who has another one's comes again. False
    when there was none, or when the caller may not delete it."""
    deleted = await connection.execute(
        "DELETE FROM token_sources WHERE project_id = $1 AND id = $2", project_id, source_id
    )
    if deleted != "DELETE 1":
        return False
    await connection.execute("SELECT end_exchanged_tokens($1, false)", project_id)
    return True


@dataclass(frozen=True, slots=True)
class Rules:
    """What a project takes besides tokens. ``anonymous_sessions``: visitors without a name, from pages of its keys;
    ``user_keys_from_browsers``: anybody's word for who a user is, beside a publishable key."""

    anonymous_sessions: bool
    user_keys_from_browsers: bool


@traced
async def rules(connection: Connection, project_id: UUID) -> Rules:
    """What the project takes besides tokens. Raises ``AppError`` ``project_not_found``."""
    row = await connection.fetchrow(
        "SELECT anonymous_sessions, user_keys_from_browsers FROM projects WHERE id = $1", project_id
    )
    if row is None:
        raise not_found("project")
    return Rules(*row)


@traced
async def set_rules(connection: Connection, project_id: UUID, to: Rules) -> bool:
    """Where visitors are taken no more, their tokens end. False when the caller may not."""
    changed = await connection.execute(
        "UPDATE projects SET anonymous_sessions = $2, user_keys_from_browsers = $3 WHERE id = $1",
        *(project_id, to.anonymous_sessions, to.user_keys_from_browsers),
    )
    if not to.anonymous_sessions:
        await connection.execute("SELECT end_exchanged_tokens($1, true)", project_id)
    return changed == "UPDATE 1"
