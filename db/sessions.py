"""A person's session on the pages, and the link that opens one, once. Both are credentials of their own kinds.

Their tokens have prefixes of their own, so neither is ever taken for a key: ``/mcp`` and the APIs do not know them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from db import ledger
from db.errors import not_found
from db.ids import uuid7
from db.principal import Principal
from db.scopes import ALL_SCOPES
from db.tokens import HINT, is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database

    Owner: TypeAlias = asyncpg.Connection[asyncpg.Record]

LINK: Final = "ik_ol_"
SESSION: Final = "ik_ps_"
LINK_MINUTES: Final = 10
SESSION_SECONDS: Final = 3600


async def create_link(owner: Owner, user_id: UUID) -> str:
    """A token that opens one session of ``user_id`` within 10 minutes. An operator's act: on the owner's connection."""
    token = new_token(LINK)
    await owner.execute(
        "INSERT INTO credentials (id, kind, user_id, name, hint, token_hash, scopes, expires_at)"
        " VALUES ($1, 'link', $2, 'innkeeper open', $3, $4, $5, $6)",
        *(uuid7(), user_id, token[:HINT], token_hash(token), sorted(ALL_SCOPES)),
        datetime.now(UTC) + timedelta(minutes=LINK_MINUTES),
    )
    return token


async def open_session(database: Database, link: str) -> str | None:
    """The token of a new session, valid for an hour; ``None`` for a link that was used, has expired or never was."""
    if not is_wellformed(link, LINK):
        return None
    token = new_token(SESSION)
    async with database.entering() as connection:
        opened = await connection.fetchval(
            "SELECT open_session($1, $2, $3, $4)", token_hash(link), uuid7(), token_hash(token), token[:HINT]
        )
    return token if opened else None


async def find_session(database: Database, token: str) -> Principal | None:
    """The person of a live session. Asked of the database each time: pages are few and must end at once."""
    if not is_wellformed(token, SESSION):
        return None
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM authenticate($1)", token_hash(token))
    if row is None or row["kind"] != "session":
        return None
    return Principal(
        credential_id=row["credential_id"],
        user_id=row["user_id"],
        project_id=None,
        end_user_id=None,
        scopes=frozenset(row["scopes"]),
        kind="session",
    )


async def address(connection: Connection, person: Principal) -> str:
    """Of the person's own account here."""
    return str(await connection.fetchval("SELECT email FROM users WHERE id = $1", person.user_id))


async def close_session(database: Database, person: Principal) -> None:
    """End the session that this person came with."""
    async with database.transaction(person) as connection:
        await connection.execute("SELECT close_session()")


async def live(connection: Connection) -> list[asyncpg.Record]:
    """The sessions that have not ended of the person of this transaction, the newest first: ``id, created_at,
    expires_at``, and from where each was opened, where that is known: ``address, user_agent``."""
    return await connection.fetch("SELECT * FROM live_sessions()")


async def end(connection: Connection, person: Principal, session: UUID) -> None:
    """End one session of the person. Raises ``AppError`` for one that is not theirs, or has ended."""
    # First, because a session that ends itself may write nothing any more; undone when there is nothing to end.
    await ledger.audit(connection, person, None, "session:ended", str(session))
    if not await connection.fetchval("SELECT end_session($1)", session):
        raise not_found("session", "Open the list of sessions again.")


async def end_others(connection: Connection, person: Principal) -> int:
    """End all sessions of the person but this one."""
    ended = int(await connection.fetchval("SELECT end_other_sessions()"))
    await ledger.audit(connection, person, None, "session:others_ended", str(ended))
    return ended
