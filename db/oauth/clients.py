"""The programs that ask for tokens, as the database knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

from db import operator_acts
from db.errors import invalid, not_found
from db.ids import uuid7
from db.oauth.tokens import CLIENT, SECRET
from db.scopes import ALL_SCOPES
from db.tokens import is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Database

    Owner: TypeAlias = asyncpg.Connection[asyncpg.Record]

AuthMethod: TypeAlias = Literal["none", "client_secret_basic", "client_secret_post"]
Kind: TypeAlias = Literal["house", "registered", "dynamic", "document"]
AUTHORIZATION_CODE: Final = "authorization_code"
REFRESH_TOKEN: Final = "refresh_token"  # noqa: S105  the name of a grant
CLIENT_CREDENTIALS: Final = "client_credentials"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  the name of a grant
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
HOUSE_CLIENT_ID: Final = "innkeeper-cli"


@dataclass(frozen=True, slots=True)
class Client:
    """``client_id`` is what it calls itself; ``id`` is ours. ``user_id``: of the account that a service acts as."""

    id: UUID
    client_id: str
    kind: Kind
    name: str
    uri: str | None
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[str]
    auth_method: AuthMethod
    secret_hash: bytes | None = field(repr=False)
    scopes: tuple[str, ...]
    user_id: UUID | None
    may_introspect: bool
    created_at: datetime
    fresh_until: datetime | None

    @property
    def refreshable(self) -> bool:
        return REFRESH_TOKEN in self.grant_types

    @property
    def fresh(self) -> bool:
        """Whether what is known of it need not be asked for again."""
        return self.kind != "document" or (self.fresh_until is not None and datetime.now(UTC) < self.fresh_until)

    @classmethod
    def of(cls, row: asyncpg.Record) -> Client:
        plain: dict[str, Any] = {name: row[name] for name in cls.__slots__}
        for name in ("redirect_uris", "scopes"):
            plain[name] = tuple(row[name])
        return cls(**plain | {"grant_types": frozenset(row["grant_types"])})


@dataclass(frozen=True, slots=True)
class Described:
    """What a client says of itself, checked."""

    name: str
    uri: str | None
    redirect_uris: tuple[str, ...]
    grant_types: frozenset[str]
    auth_method: AuthMethod = "none"


async def find(database: Database, client_id: str) -> Client | None:
    """The client of this ``client_id``; ``None`` without one."""
    if "\x00" in client_id:  # which no text of PostgreSQL has
        return None
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM find_client($1)", client_id)
    return None if row is None else Client.of(row)


async def register(database: Database, described: Described) -> tuple[str, str | None, datetime]:
    """A client that registers itself (RFC 7591): its id, its secret if it uses one, and when that was."""
    client_id = new_token(CLIENT)
    secret = None if described.auth_method == "none" else new_token(SECRET)
    async with database.system() as connection:
        registered_at = await connection.fetchval(
            "SELECT register_client($1, $2, $3, $4, $5, $6, $7, $8)",
            *(uuid7(), client_id, described.name, described.uri, list(described.redirect_uris)),
            *(sorted(described.grant_types), described.auth_method, token_hash(secret) if secret else None),
        )
    return client_id, secret, registered_at


async def keep_document(database: Database, client_id: str, described: Described, life: timedelta) -> Client | None:
    """What the document at ``client_id`` says, believed for ``life``; ``None`` when that id is somebody else's."""
    async with database.system() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM keep_document($1, $2, $3, $4, $5, $6, $7)",
            *(uuid7(), client_id, described.name, described.uri, list(described.redirect_uris)),
            *(sorted(described.grant_types), life),
        )
    return None if row is None else Client.of(row)


def knows_secret(client: Client, secret: str) -> bool:
    """Whether ``secret`` is the client's. Compares hashes of 256 random bits, of which timing tells nothing."""
    return client.secret_hash is not None and is_wellformed(secret, SECRET) and token_hash(secret) == client.secret_hash


async def create(
    owner: Owner,
    name: str,
    *,
    redirect_uris: Sequence[str] = (),
    public: bool = False,
    may_introspect: bool = False,
) -> tuple[str, str | None]:
    """A client that the operator makes: its id and, unless it is public, its secret."""
    client_id, secret = new_token(CLIENT), None if public else new_token(SECRET)
    await owner.execute(
        "INSERT INTO oauth_clients (id, client_id, kind, name, redirect_uris, grant_types, auth_method, secret_hash,"
        " may_introspect) VALUES ($1, $2, 'registered', $3, $4, $5, $6, $7, $8)",
        *(uuid7(), client_id, name, list(redirect_uris)),
        [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE] if redirect_uris else [DEVICE_CODE, REFRESH_TOKEN],
        "none" if public else "client_secret_basic",
        *(token_hash(secret) if secret else None, may_introspect),
    )
    await operator_acts.note(owner, "client:created", client_id)
    return client_id, secret


async def create_service(
    owner: Owner, name: str, project_id: UUID, scopes: Sequence[str], *, role: str = "member"
) -> tuple[str, str]:
    """A service account: an account of its own with ``role`` in one project, and the client that acts as it with at
    most ``scopes``. Its id and its secret. Raises ``AppError`` for a project or a scope there is not."""
    unknown = sorted(set(scopes) - ALL_SCOPES)
    if unknown:
        raise invalid(f"Unknown scope: {', '.join(unknown)}.", f"Scopes are {', '.join(sorted(ALL_SCOPES))}.")
    user_id, client_id, secret = uuid7(), new_token(CLIENT), new_token(SECRET)
    async with owner.transaction():
        if not await owner.fetchval("SELECT EXISTS (SELECT FROM projects WHERE id = $1)", project_id):
            raise not_found("project", "Name a project by the id that list_projects shows.")
        await owner.execute(
            "INSERT INTO users (id, email, name) VALUES ($1, $2, $3)", user_id, f"{user_id}@service.invalid", name
        )
        await owner.execute(
            "INSERT INTO project_members (user_id, project_id, role) VALUES ($1, $2, $3)", user_id, project_id, role
        )
        await owner.execute(
            "INSERT INTO oauth_clients (id, client_id, kind, name, grant_types, auth_method, secret_hash, scopes,"
            " user_id, project_id) VALUES ($1, $2, 'registered', $3, $4, 'client_secret_basic', $5, $6, $7, $8)",
            *(uuid7(), client_id, name, [CLIENT_CREDENTIALS], token_hash(secret), sorted(scopes), user_id, project_id),
        )
        await operator_acts.note(owner, "client:created", client_id, about=user_id, project_id=project_id)
    return client_id, secret


async def listed(owner: Owner) -> list[asyncpg.Record]:
    """The clients that an operator has made: ``client_id, name, redirect_uris, scopes, project_id, may_introspect,
    used_at``; the oldest first."""
    return await owner.fetch(
        "SELECT client_id, name, redirect_uris, scopes, project_id, may_introspect, used_at FROM oauth_clients"
        " WHERE kind = 'registered' ORDER BY id"
    )


async def delete(owner: Owner, client_id: str) -> None:
    """End a client that an operator has made, all its grants and, of a service, its account. Raises ``AppError``."""
    async with owner.transaction():
        row = await owner.fetchrow(
            "SELECT id, user_id, project_id FROM oauth_clients WHERE client_id = $1 AND kind = 'registered'", client_id
        )
        if row is None:
            raise not_found("client", "List them with 'innkeeper clients list' and use an id from there.")
        await owner.execute("DELETE FROM oauth_clients WHERE id = $1", row["id"])
        await operator_acts.note(
            owner,
            "client:deleted",
            client_id,
            about=row["user_id"] or operator_acts.OPERATOR,
            project_id=row["project_id"],
        )
        if row["user_id"] is not None:
            await owner.execute("UPDATE users SET disabled_at = now() WHERE id = $1", row["user_id"])
            await owner.execute("DELETE FROM project_members WHERE user_id = $1", row["user_id"])
