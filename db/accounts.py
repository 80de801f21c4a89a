"""Accounts, projects and keys as the operator makes them: on the owner's connection, from the command line.

Tools and pages never use these; what a caller may do to its own account goes through the policies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from db.errors import AppError, invalid, not_found
from db.ids import uuid7
from db.keys import KINDS, scopes_of
from db.origins import origins_of
from db.scopes import Scope
from db.tokens import FEED_KEY, HINT, PUBLISHABLE_KEY, is_wellformed, new_token, token_hash

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
FIRST_EMAIL: Final = "owner@localhost"
_KEY_COLUMNS: Final = (
    "id, kind, name, hint, user_id, project_id, scopes, origins, read_only, created_at, expires_at, revoked_at"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it may be shown: never the token. ``kind``: ``secret``, ``publishable`` for pages of ``origins``, or
    ``feed`` for a registry's feed."""

    id: UUID
    kind: str
    name: str
    hint: str
    user_id: UUID
    project_id: UUID | None
    scopes: list[str]
    origins: list[str] | None
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def first_account(owner: Owner, token: str) -> tuple[UUID, UUID]:
    """Make the first user, project and secret key, once; return (user id, project id).

    ``token`` is written to its file by the caller before this call, so that a crash between the two loses nothing:
    the next start finds the file and comes here again. Safe to repeat.
    """
    async with owner.transaction():
        await owner.execute("SELECT pg_advisory_xact_lock(hashtext('innkeeper first account'))")
        user_id = await owner.fetchval("SELECT id FROM users ORDER BY created_at, id LIMIT 1")
        if user_id is None:
            user_id = await create_user(owner, FIRST_EMAIL, "Owner")
        project_id = await owner.fetchval(
            "SELECT project_id FROM project_members WHERE user_id = $1 ORDER BY project_id LIMIT 1", user_id
        )
        if project_id is None:
            project_id = uuid7()
            await owner.execute(
                "INSERT INTO projects (id, name, created_by) VALUES ($1, 'First project', $2)", project_id, user_id
            )
        if not await owner.fetchval("SELECT EXISTS (SELECT FROM credentials WHERE token_hash = $1)", token_hash(token)):
            await create_key(owner, user_id, name="first key", token=token)
    return user_id, project_id


async def create_user(owner: Owner, email: str, name: str = "") -> UUID:
    """The id of a new account, which has nothing yet. Raises ``AppError`` ``user_exists`` for a known address."""
    user_id = uuid7()
    try:
        await owner.execute("INSERT INTO users (id, email, name) VALUES ($1, $2, $3)", user_id, email.lower(), name)
    except asyncpg.UniqueViolationError as error:
        raise AppError("user_exists", 409, f"There is already a user {email}.", "Use that one.") from error
    return user_id


async def find_user(owner: Owner, email: str | None) -> UUID:
    """The user with ``email``, or the first one when ``None``. Raises ``AppError`` when there is none."""
    found = await owner.fetchval(
        "SELECT id FROM users WHERE $1::text IS NULL OR email = $1 ORDER BY created_at, id LIMIT 1",
        email.lower() if email else None,
    )
    if found is None:
        raise not_found("user", "Make one with 'innkeeper users add EMAIL', and name its e-mail or id.")
    return UUID(str(found))


async def create_key(
    owner: Owner,
    user_id: UUID,
    *,
    name: str = "",
    project_id: UUID | None = None,
    scopes: Iterable[str] | None = None,
    read_only: bool = False,
    expires_at: datetime | None = None,
    token: str | None = None,
) -> tuple[UUID, str]:
    """Make a secret key and return (id, token); the token is not to be had again. No scopes named means all."""
    chosen = scopes_of(scopes)
    if project_id is not None:
        await _require_member(owner, user_id, project_id)
    token = token or new_token()
    if not is_wellformed(token):
        raise invalid("That is not a key of Innkeeper's form.", "Remove the key file and start again.")
    key_id = uuid7()
    await owner.execute(
        "INSERT INTO credentials (id, user_id, project_id, name, hint, token_hash, scopes, read_only, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(key_id, user_id, project_id, name, token[:HINT], token_hash(token), chosen, read_only, expires_at),
    )
    return key_id, token


async def create_feed_key(
    owner: Owner, user_id: UUID, project_id: UUID, *, name: str = "", expires_at: datetime | None = None
) -> tuple[UUID, str]:
    """Make a key that installs from the registry of one project, and does nothing else; as :func:`create_key`."""
    await _require_member(owner, user_id, project_id)
    token, key_id = new_token(FEED_KEY), uuid7()
    await owner.execute(
        "INSERT INTO credentials (id, kind, user_id, project_id, name, hint, token_hash, scopes, read_only, expires_at)"
        " VALUES ($1, 'feed', $2, $3, $4, $5, $6, $7, true, $8)",
        *(key_id, user_id, project_id, name, token[:HINT], token_hash(token), [Scope.registry_read], expires_at),
    )
    return key_id, token


async def create_publishable_key(
    owner: Owner,
    user_id: UUID,
    project_id: UUID,
    *,
    origins: Iterable[str] = (),
    name: str = "",
    expires_at: datetime | None = None,
) -> tuple[UUID, str]:
    """Make a key for the pages of ``origins``, which acts for end users of one project alone; as :func:`create_key`."""
    await _require_member(owner, user_id, project_id)
    token, key_id = new_token(PUBLISHABLE_KEY), uuid7()
    await owner.execute(
        "INSERT INTO credentials (id, kind, user_id, project_id, name, hint, token_hash, origins, expires_at)"
        " VALUES ($1, 'publishable', $2, $3, $4, $5, $6, $7, $8)",
        *(key_id, user_id, project_id, name, token[:HINT], token_hash(token), origins_of(origins), expires_at),
    )
    return key_id, token


async def _require_member(owner: Owner, user_id: UUID, project_id: UUID) -> None:
    if not await owner.fetchval(
        "SELECT EXISTS (SELECT FROM project_members WHERE project_id = $1 AND user_id = $2)", project_id, user_id
    ):
        raise not_found("project", "Name a project that this user is a member of.")


async def list_keys(owner: Owner, user_id: UUID | None = None) -> list[Key]:
    """The keys of an account, or of all of them, the oldest first; those that have ended too."""
    rows = await owner.fetch(
        f"SELECT {_KEY_COLUMNS} FROM credentials"  # noqa: S608  fixed text
        " WHERE kind = ANY ($2::text[]) AND ($1::uuid IS NULL OR user_id = $1) ORDER BY id",
        *(user_id, list(KINDS)),
    )
    return [Key(**_plain(row)) for row in rows]


async def revoke_key(owner: Owner, key: str) -> Key:
    """Revoke by id, by hint when it is the only one, or by the token itself. Every process forgets it at once."""
    rows = await owner.fetch(
        f"SELECT {_KEY_COLUMNS} FROM credentials WHERE id::text = $1 OR hint = $1 OR token_hash = $2",  # noqa: S608  fixed text
        key,
        token_hash(key),
    )
    if not rows:
        raise not_found("key", "List the keys with 'innkeeper keys list' and use an id from there.")
    if len(rows) > 1:
        raise AppError("key_ambiguous", 409, f"{len(rows)} keys begin with {key}.", "Name the key by its id.")
    await owner.execute("UPDATE credentials SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1", rows[0]["id"])
    return Key(**_plain(rows[0]))


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    return dict(row.items())
