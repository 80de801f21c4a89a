"""The keys of one project, as a person at the pages makes and ends them. What the operator does is in
:mod:`db.accounts`.

Each function takes a connection in a transaction of the person's session, in that project. A ``secret`` key has its
maker's rights in the project and is for servers; a ``publishable`` one acts for end users alone, on pages of its
origins; a ``feed`` key installs from the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from db.errors import AppError, invalid, not_found
from db.ids import uuid7
from db.origins import origins_of
from db.scopes import ALL_SCOPES, Scope
from db.tokens import FEED_KEY, HINT, PUBLISHABLE_KEY, SECRET_KEY, new_token, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection

Kind = Literal["secret", "publishable", "feed"]
PREFIXES: Final = {"secret": SECRET_KEY, "publishable": PUBLISHABLE_KEY, "feed": FEED_KEY}
KINDS: Final = tuple(PREFIXES)
LONGEST_NAME: Final = 100


async def of_project(connection: Connection, project_id: UUID) -> list[asyncpg.Record]:
    """Those that have not ended: all of them to owners and admins, to others their own. The newest first."""
    return await connection.fetch(
        "SELECT id, kind, user_id, name, hint, scopes, origins, read_only, created_at, expires_at FROM credentials"
        " WHERE project_id = $1 AND kind = ANY ($2::text[]) AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > now()) ORDER BY id DESC",
        *(project_id, list(KINDS)),
    )


async def create(
    connection: Connection,
    project_id: UUID,
    kind: Kind,
    *,
    name: str,
    scopes: Iterable[str] | None = None,
    origins: Iterable[str] = (),
    read_only: bool = False,
    expires_at: datetime | None = None,
) -> tuple[UUID, str]:
    """Make a key and return (id, token); the token is not to be had again. ``scopes`` (without any, all) and
    ``read_only`` of a secret key, ``origins`` of a publishable one. Raises ``AppError``: publishable and feed keys are
    made by owners and admins, secret ones by whoever may write in the project."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise invalid(f"A key's name is 1 to {LONGEST_NAME} printable characters.", "Say what the key is for.")
    held = {"secret": lambda: scopes_of(scopes), "feed": lambda: [Scope.registry_read.value]}.get(kind, list)()
    token, key_id = new_token(PREFIXES[kind]), uuid7()
    made = await connection.fetchval(
        "SELECT add_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *(key_id, kind, project_id, name, token[:HINT], token_hash(token), held),
        *(origins_of(origins) if kind == "publishable" else None, read_only or kind == "feed", expires_at),
    )
    if not made:
        raise AppError(
            "role_insufficient",
            403,
            "Your role in this project does not allow this.",
            "Ask an owner or admin of the project to do it, or to change your role.",
            details={"ask": {"role": "member" if kind == "secret" else "admin"}},
        )
    return key_id, token


async def revoke(connection: Connection, project_id: UUID, key_id: UUID) -> None:
    """End a key of the project, and what it gave its end users, on every process, at once. Raises ``AppError`` when
    there is none that the person may end. As what makes one, it is told to the audit log by the database."""
    if not await connection.fetchval("SELECT end_key($1, $2)", key_id, project_id):
        raise not_found("key", "Open the list of keys again.")


def scopes_of(given: Iterable[str] | None) -> list[str]:
    """What a secret key may be given; everything without a choice. Raises ``AppError`` for a scope there is not."""
    chosen = sorted(ALL_SCOPES if given is None else set(given))
    unknown = [scope for scope in chosen if scope not in ALL_SCOPES]
    if unknown:
        raise invalid(f"Unknown scope: {', '.join(unknown)}.", f"Scopes are {', '.join(sorted(ALL_SCOPES))}.")
    return chosen
