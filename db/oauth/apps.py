"""The applications that a person has let in: what was agreed to, what is connected, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from db.errors import not_found
from db.oauth.grants import Consent

if TYPE_CHECKING:
    from db.database import Connection


@dataclass(frozen=True, slots=True)
class App:
    """A connected application. ``grants``: how many times it was let in and is still; ``seen_at``: when it last got
    tokens; ``projects``: ``None`` for all."""

    id: UUID
    client_id: str
    name: str
    dynamic: bool
    scopes: tuple[str, ...]
    project_ids: tuple[UUID, ...] | None
    read_only: bool
    grants: int
    since: datetime
    seen_at: datetime


async def remembered(connection: Connection, person: UUID, client: UUID) -> Consent | None:
    """What the person last allowed this client."""
    row = await connection.fetchrow(
        "SELECT scopes, project_ids, read_only FROM oauth_consents WHERE user_id = $1 AND client_id = $2",
        *(person, client),
    )
    if row is None:
        return None
    return Consent(tuple(row["scopes"]), _ids(row["project_ids"]), row["read_only"])


async def remember(connection: Connection, person: UUID, client: UUID, consent: Consent) -> None:
    """Keep what a person answered to an application, in place of what they answered before."""
    await connection.execute(
        "INSERT INTO oauth_consents (user_id, client_id, scopes, project_ids, read_only) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (user_id, client_id) DO UPDATE SET scopes = excluded.scopes,"
        " project_ids = excluded.project_ids, read_only = excluded.read_only, updated_at = now()",
        *(person, client, list(consent.scopes)),
        *(None if consent.project_ids is None else list(consent.project_ids), consent.read_only),
    )


async def connected(connection: Connection, person: UUID) -> list[App]:
    """The applications that hold a grant of the person now, those seen last first."""
    rows = await connection.fetch(
        "SELECT k.id, k.client_id, k.name, k.kind = 'dynamic' AS dynamic, n.grants, n.since, n.seen_at,"
        " l.scopes, l.read_only, l.project_ids, l.project_id"
        " FROM (SELECT c.client_id, count(*) AS grants, min(c.created_at) AS since, max(coalesce("
        "   (SELECT max(t.created_at) FROM oauth_access_tokens t WHERE t.credential_id = c.id),"
        "   (SELECT max(r.created_at) FROM oauth_refresh_tokens r WHERE r.credential_id = c.id), c.created_at))"
        "   AS seen_at, (array_agg(c.id ORDER BY c.id DESC))[1] AS newest"
        "  FROM credentials c WHERE c.user_id = $1 AND c.kind = 'oauth' AND c.revoked_at IS NULL AND ("
        "   EXISTS (SELECT FROM oauth_refresh_tokens r WHERE r.credential_id = c.id AND r.expires_at > now())"
        "   OR EXISTS (SELECT FROM oauth_access_tokens t WHERE t.credential_id = c.id AND t.expires_at > now()))"
        "  GROUP BY c.client_id) n"
        " JOIN oauth_clients k ON k.id = n.client_id JOIN credentials l ON l.id = n.newest"
        " ORDER BY n.seen_at DESC, k.id",
        person,
    )
    return [
        App(
            id=row["id"],
            client_id=row["client_id"],
            name=row["name"],
            dynamic=row["dynamic"],
            scopes=tuple(row["scopes"]),
            project_ids=(row["project_id"],) if row["project_id"] else _ids(row["project_ids"]),
            read_only=row["read_only"],
            grants=row["grants"],
            since=row["since"],
            seen_at=row["seen_at"],
        )
        for row in rows
    ]


async def forget(connection: Connection, client: UUID) -> None:
    """End every grant of the client at once, and the memory of consent. Raises ``AppError`` when there was none."""
    if not await connection.fetchval("SELECT forget_app($1)", client):
        raise not_found("app", "Open the list of connected apps again.")


def _ids(found: list[UUID] | None) -> tuple[UUID, ...] | None:
    return None if found is None else tuple(found)
