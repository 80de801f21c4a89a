"""Accounts at issuers that open ours: who is let in by one, what people have connected, what a recheck has found.

An identity is known by its issuer and the issuer's own name for it (``iss`` and ``sub``), and never by an address,
which may become somebody else's. What the issuer is asked with is sealed by whoever calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID, uuid5

from db.errors import not_found
from db.ids import uuid7
from db.scopes import ALL_SCOPES
from db.sessions import SESSION, SESSION_SECONDS
from db.tokens import HINT, new_token, token_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.database import Connection, Database
    from db.principal import Principal

TOKEN: Final = "identities.token"  # noqa: S105  where it is kept
LIFE: Final = timedelta(minutes=15)
"""How long somebody may stay at an issuer."""
TokenKind: TypeAlias = Literal["refresh", "access"]
Entered: TypeAlias = Literal["signed_in", "signed_up", "unverified", "closed", "taken", "disabled"]
"""``closed``: there is no account, and none may be made; ``taken``: the address is of an account that another identity
of the same issuer opens."""
Connected: TypeAlias = Literal["connected", "unverified", "closed", "taken"]
_REFUSED: Final = {"disabled": "the account is disabled", "taken": "another identity opens the account"}
"""What the audit log says of who may not sign in, in the words of the house."""
_NAMESPACE: Final = UUID("0a4b7b0e-5d53-5d0c-9c1e-6c3a8f1f7b52")


@dataclass(frozen=True, slots=True)
class Sealed:
    """A token of the issuer's, as it is kept."""

    kind: TokenKind
    token: bytes


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an issuer says of who came back from it. ``emails``: those it has verified, the main one first."""

    provider: str
    issuer: str
    subject: str
    emails: tuple[str, ...]
    name: str

    @property
    def id(self) -> UUID:
        return identity_id(self.issuer, self.subject)


@dataclass(frozen=True, slots=True)
class Flow:
    """A way to an issuer that somebody has come back from. ``user_id``: to connect with that account."""

    provider: str
    next: str
    consent: bool
    user_id: UUID | None


@dataclass(frozen=True, slots=True)
class Identity:
    """As its person sees it."""

    id: UUID
    provider: str
    issuer: str
    email: str
    created_at: datetime
    used_at: datetime
    checked_at: datetime
    suspended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ToCheck:
    """``seen``: which state of it this is."""

    provider: str
    issuer: str
    subject: str
    sealed: Sealed
    seen: datetime


def identity_id(issuer: str, subject: str) -> UUID:
    """The same for the same account, so that a token can be sealed for its row before there is one."""
    return uuid5(_NAMESPACE, f"{issuer} {subject}")


async def start(
    connection: Connection, state: str, *, browser: str, provider: str, next_page: str, consent: bool, connect: bool
) -> None:
    """Remember who is sent to an issuer. ``connect``: the person of this transaction, who is signed in."""
    started = await connection.fetchval(
        "SELECT start_sign_in_flow($1, $2, $3, $4, $5, $6, $7)",
        *(_hash(state), _hash(browser), provider, next_page, consent, connect, LIFE),
    )
    if not started:
        raise not_found("session", "Sign in first.")


async def take(database: Database, state: str, browser: str) -> Flow | Literal["closed", "elsewhere"]:
    """What ``state`` stands for, once, in the browser that was sent away with it."""
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM take_sign_in_flow($1, $2)", _hash(state), _hash(browser))
    if row is None or row["outcome"] == "closed":
        return "closed"
    if row["outcome"] == "elsewhere":
        return "elsewhere"
    return Flow(row["provider"], row["next"], row["consent"], row["user_id"])


async def is_kept(database: Database, vouched: Vouched) -> bool:
    """Whether there is a token to ask its issuer with."""
    async with database.system() as connection:
        return bool(await connection.fetchval("SELECT has_identity_token($1)", vouched.id))


async def enter(
    database: Database, vouched: Vouched, sealed: Sealed | None, *, sign_up: bool
) -> tuple[Entered, str | None]:
    """A session for whom an issuer vouches, and the account with all that belongs to it if there was none: the outcome,
    and the session's token if one was opened. What was suspended is not any more."""
    session = new_token(SESSION)
    async with database.entering() as connection:
        outcome: Entered = await connection.fetchval(
            "SELECT enter_with_identity($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            *(vouched.id, vouched.provider, vouched.issuer, vouched.subject, next(iter(vouched.emails), None)),
            *(vouched.name, sign_up, *_parts(sealed), uuid7(), uuid7(), uuid7(), uuid7()),
            *(token_hash(session), session[:HINT], sorted(ALL_SCOPES), timedelta(seconds=SESSION_SECONDS)),
        )
        if outcome in ("disabled", "taken"):
            await connection.execute(
                "SELECT note_sign_in_refused(NULL, $1, $2, $3, $4)",
                *(vouched.id, next(iter(vouched.emails), None), vouched.provider, _REFUSED[outcome]),
            )
    return outcome, session if outcome in ("signed_in", "signed_up") else None


async def connect(connection: Connection, vouched: Vouched, sealed: Sealed | None) -> Connected:
    """Let an identity open the account of the person of this transaction, over an address that both have."""
    outcome: Connected = await connection.fetchval(
        "SELECT connect_identity($1, $2, $3, $4, $5, $6, $7)",
        *(vouched.id, vouched.provider, vouched.issuer, vouched.subject, list(vouched.emails), *_parts(sealed)),
    )
    return outcome


async def mine(connection: Connection, person: Principal) -> list[Identity]:
    """The accounts at issuers that open this person's account, the oldest first."""
    rows = await connection.fetch(
        "SELECT id, provider, issuer, email, created_at, used_at, checked_at, suspended_at FROM identities"
        " WHERE user_id = $1 ORDER BY created_at, id",
        person.user_id,
    )
    return [Identity(**dict(row.items())) for row in rows]


async def disconnect(connection: Connection, identity: UUID) -> None:
    """End what came of it, all but this session. Raises ``AppError`` for one that is not the person's."""
    if not await connection.fetchval("SELECT disconnect_identity($1)", identity):
        raise not_found("identity", "Open the page of your account again.")


async def look(connection: Connection, after: UUID, limit: int) -> UUID | None:
    """On the ops role: add a job for each of at most ``limit`` identities after one that are due to be asked about.
    Answers the last of them."""
    found: UUID | None = await connection.fetchval("SELECT look_at_identities($1, $2)", after, limit)
    return found


async def to_check(connection: Connection, identity: UUID) -> ToCheck | None:
    """On the ops role."""
    row = await connection.fetchrow("SELECT * FROM identity_to_check($1)", identity)
    if row is None:
        return None
    sealed = Sealed(row["token_kind"], row["token"])
    return ToCheck(row["provider"], row["issuer"], row["subject"], sealed, row["checked_at"])


async def checked(connection: Connection, identity: UUID, seen: datetime, after: Sealed | None) -> bool:
    """On the ops role: what the issuer has said of what was read as ``seen``; ``None``: it refused. ``False`` when
    somebody has signed in meanwhile."""
    return bool(await connection.fetchval("SELECT identity_checked($1, $2, $3, $4)", identity, seen, *_parts(after)))


def _parts(sealed: Sealed | None) -> Sequence[object]:
    return (None, None) if sealed is None else (sealed.kind, sealed.token)


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
