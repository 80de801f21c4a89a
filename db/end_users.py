"""The end users of a project's product, and the short tokens they get.

An end user is a name that an issuer has for somebody (OpenID Connect Core 2: ``iss`` and ``sub``), never a name alone:
the same one at two issuers is two people. What is no issuer has words for it that no issuer can have, with a tilde
before them.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.errors import AppError, invalid, not_found
from db.ids import uuid7
from db.scopes import HELD_BY_END_USERS
from db.token_sources import TokenSource
from db.tokens import END_USER, is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    from db.database import Database
    from db.principal import Principal

OWN: Final = ""
"""The project's own server, which names its users by ``userKey``, or in tokens it signs and names no issuer in."""
UNVERIFIED: Final = "~unverified"
"""Anybody's word, where a project takes it."""
ANONYMOUS: Final = "~anonymous"
"""This house, of visitors without a name: theirs is the hash of the session that only they know."""
SESSION: Final = "ik_as_"
"""Of the sessions of visitors without a name."""
RESERVED: Final = "~"
LIFE: Final = timedelta(hours=1)
SESSION_LIFE: Final = timedelta(days=30)
"""From each use."""
LONGEST_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a live key may exchange tokens by, in one project. ``origins``: the pages of a publishable key, ``None`` for
    a secret one."""

    key_id: UUID
    project_id: UUID
    origins: frozenset[str] | None
    anonymous_sessions: bool
    sources: tuple[TokenSource, ...]


@dataclass(frozen=True, slots=True)
class EndUserToken:
    """A token that somebody gets, once. ``session``: with which a visitor without a name gets the next one."""

    token: str = field(repr=False)
    end_user_id: UUID
    seconds: int
    scopes: tuple[str, ...]
    session: str | None = field(default=None, repr=False)


async def find_exchange(database: Database, key: str, project_id: UUID | None = None) -> Exchange | None:
    """``project_id``: as the request names it; a key of several projects means the first without. ``None`` for a key
    that is unknown, revoked, read-only or of a viewer, or reaches no such project."""
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM find_exchange($1, $2)", token_hash(key), project_id)
    if row is None:
        return None
    origins = row["origins"]
    return Exchange(
        key_id=row["key_id"],
        project_id=row["project_id"],
        origins=None if origins is None else frozenset(origins),
        anonymous_sessions=row["anonymous_sessions"],
        sources=tuple(_source(found) for found in row["sources"]),
    )


async def issue(
    database: Database,
    key: str,
    project_id: UUID,
    *,
    issuer: str,
    name: str,
    until: datetime | None = None,
    life: timedelta = LIFE,
    scopes: Sequence[str] | None = None,
) -> EndUserToken:
    """A token for the end user whom ``issuer`` calls ``name``, which outlives neither ``until``, nor ``life``, nor the
    key. Raises ``AppError`` when the key has ended meanwhile, or the time has passed."""
    return await _issue(database, key, project_id, issuer, name, until, life, scopes)


async def begin_session(database: Database, key: str, project_id: UUID) -> EndUserToken:
    """A token for a visitor nobody has seen, and the session they get the next one with."""
    session = new_token(SESSION)
    return await _issue(database, key, project_id, ANONYMOUS, _name_of(session), session=session)


async def resume_session(database: Database, key: str, project_id: UUID, session: str) -> EndUserToken:
    """The next token of a visitor. Raises ``AppError`` ``invalid_request`` for a session that is unknown, or was not
    used for 30 days."""
    if not is_wellformed(session, SESSION):
        raise refusal("unknown")
    name = _name_of(session)
    return await _issue(database, key, project_id, ANONYMOUS, name, known=SESSION_LIFE, session=session)


async def named(database: Database, principal: Principal, project_id: UUID, user_key: str) -> UUID:
    """The end user whom the caller calls ``user_key``, made if need be. Raises ``AppError``."""
    if not is_name(user_key):
        raise invalid(
            f"userKey is 1 to {LONGEST_NAME} printable characters.", "Send your own name for this user, e.g. their id."
        )
    async with database.system() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM name_end_user($1, $2, $3, $4, $5)",
            *(principal.credential_id, principal.user_id, project_id, user_key, uuid7()),
        )
    if row is None or row["outcome"] == "unknown":
        raise not_found("project")
    if row["outcome"] == "not_believed":
        raise AppError(
            "user_key_not_believed",
            403,
            "A userKey counts with a secret key alone; beside a publishable one it could be anybody's word.",
            "Exchange the user's own token at /oauth/token, or send userKey with a secret key, from your server. The "
            "project's page of end users has a switch for trying things out.",
        )
    found: UUID = row["whom"]
    return found


def is_name(text: str) -> bool:
    """Whether an end user can be called that."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


async def is_known_origin(database: Database, origin: str) -> bool:
    """Whether a live publishable key of anybody lists this origin."""
    async with database.system() as connection:
        return bool(await connection.fetchval("SELECT is_known_origin($1)", origin))


async def _issue(
    database: Database,
    key: str,
    project_id: UUID,
    issuer: str,
    name: str,
    until: datetime | None = None,
    life: timedelta = LIFE,
    scopes: Sequence[str] | None = None,
    *,
    known: timedelta | None = None,
    session: str | None = None,
) -> EndUserToken:
    token = new_token(END_USER)
    async with database.system() as connection:
        row = await connection.fetchrow(
            "SELECT *, now() AS now FROM issue_end_user_token($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *(token_hash(key), project_id, issuer, name, known, sorted(scopes or HELD_BY_END_USERS), until, life),
            *(token_hash(token), uuid7(), uuid7()),
        )
    if row is None or row["outcome"] != "issued":
        raise refusal("key" if row is None else row["outcome"])
    seconds = int((row["until"] - row["now"]).total_seconds())
    return EndUserToken(token, row["whom"], seconds, tuple(row["given"]), session)


def refusal(outcome: str) -> AppError:
    """Why nothing was issued; codes of RFC 6749 5.2, as RFC 8693 2.2.2 wants them."""
    if outcome == "key":
        return AppError("invalid_client", 401, "This key is unknown, or was revoked.", "Use a key of the project.")
    if outcome == "expired":
        return AppError("invalid_request", 400, "The subject_token has expired.", "Get a new one from its issuer.")
    return AppError(
        "invalid_request",
        400,
        "This session of a visitor is unknown here, or was not used for 30 days.",
        "Begin a new one.",
    )


def _name_of(session: str) -> str:
    return sha256(session.encode()).hexdigest()


def _source(found: dict[str, Any]) -> TokenSource:
    """One of them as ``find_exchange`` writes it."""
    sealed = found["sealed"]
    return TokenSource(
        id=UUID(found["id"]),
        kind=found["kind"],
        issuer=found["issuer"],
        audience=found["audience"],
        url=found["url"],
        public_key=found["public_key"],
        sealed=None if sealed is None else b64decode(sealed),
    )
