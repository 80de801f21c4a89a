"""Invitations to a project: who is asked, what the link opens, and how many may go out.

A link's token is known to nobody but who gets it; of it the hash is kept. Whoever accepts is signed in with the address
that was invited, so the link alone opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

from db import house_mails
from db.errors import AppError, conflict, not_found
from db.ids import uuid7
from db.spans import traced
from db.tokens import is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database

TOKEN: Final = "ik_in_"  # noqa: S105  the public prefix, not a secret
OF_PROJECT: Final = 50
OF_PERSON: Final = 100
TO_ADDRESS: Final = 5
"""The most that go out in a day: of one project, by one person, and to one address."""
_SHOWN: Final = "id, address, role, invited_by, sent, sent_at, created_at, expires_at"
_OPEN: Final = "accepted_at IS NULL AND revoked_at IS NULL"

InvitedRole: TypeAlias = Literal["admin", "member", "viewer"]
Answer: TypeAlias = Literal["joined", "member", "declined"]
"""``member``: was one already, and stays what they were."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An invitation that is on its way. ``token``: what its link is made of; to be shown to nobody where ``mailed``."""

    id: UUID
    token: str
    expires_at: datetime
    mailed: bool


@dataclass(frozen=True, slots=True)
class Invitation:
    """What whoever holds the link, or is signed in with its address, is told."""

    project_id: UUID
    id: UUID
    project: str
    role: InvitedRole
    address: str
    expires_at: datetime
    inviter: str
    state: Literal["open", "accepted", "revoked", "expired"]


Seal: TypeAlias = Callable[[str], bytes]
"""Makes what the mail carries of a token."""


async def invite(
    connection: Connection, project_id: UUID, inviter: UUID, address: str, role: InvitedRole, *, seal: Seal | None
) -> Sent:
    """Ask ``address`` into the project, and queue the mail in this transaction, unless ``seal`` is ``None``: then
    nobody sends any. One that was open for the address is replaced.

    Raises ``AppError`` for a member, and for too many.
    """
    await _check_number(connection, address)
    if await connection.fetchval("SELECT EXISTS (SELECT FROM project_people(NULL, NULL) WHERE email = $1)", address):
        raise conflict(
            "already_member",
            "Somebody with this address is a member already.",
            "Change the role with update_member.",
            {"next_tool": "list_members"},
        )
    await connection.execute(
        f"UPDATE invitations SET revoked_at = now() WHERE project_id = $1 AND address = $2 AND {_OPEN}",  # noqa: S608  fixed text
        *(project_id, address),
    )
    invitation_id, token = uuid7(), new_token(TOKEN)
    expires_at: datetime = await connection.fetchval(
        "INSERT INTO invitations (project_id, id, address, role, invited_by, token_hash)"
        " VALUES ($1, $2, $3, $4, $5, $6) RETURNING expires_at",
        *(project_id, invitation_id, address, role, inviter, token_hash(token)),
    )
    return await _sent(connection, project_id, inviter, address, Sent(invitation_id, token, expires_at, False), seal)


async def resend(
    connection: Connection, project_id: UUID, inviter: UUID, invitation_id: UUID, *, seal: Seal | None
) -> Sent:
    """The same with a new link, good for another 7 days; the former opens nothing any more. Raises ``AppError`` when
    there is none that waits, or for too many."""
    address = await connection.fetchval(
        f"SELECT address FROM invitations WHERE project_id = $1 AND id = $2 AND {_OPEN}",  # noqa: S608  fixed text
        *(project_id, invitation_id),
    )
    if address is None:
        raise not_found("invitation")
    await _check_number(connection, address)
    token = new_token(TOKEN)
    expires_at = await connection.fetchval(
        "UPDATE invitations SET token_hash = $3, sent = sent + 1, sent_at = now(),"  # noqa: S608  fixed text
        f" expires_at = now() + interval '7 days' WHERE project_id = $1 AND id = $2 AND {_OPEN} RETURNING expires_at",
        *(project_id, invitation_id, token_hash(token)),
    )
    if expires_at is None:
        raise not_found("invitation")
    return await _sent(connection, project_id, inviter, address, Sent(invitation_id, token, expires_at, False), seal)


@traced
async def page(connection: Connection, project_id: UUID, *, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """Those that wait for an answer, expired ones among them, the newest first."""
    return await connection.fetch(
        f"SELECT {_SHOWN} FROM invitations WHERE project_id = $1 AND {_OPEN}"  # noqa: S608  fixed text
        " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        *(project_id, before, limit),
    )


@traced
async def fetch(connection: Connection, project_id: UUID, invitation_id: UUID) -> asyncpg.Record | None:
    """One that waits for an answer."""
    return await connection.fetchrow(
        f"SELECT {_SHOWN} FROM invitations WHERE project_id = $1 AND id = $2 AND {_OPEN}",  # noqa: S608  fixed text
        *(project_id, invitation_id),
    )


@traced
async def revoke(connection: Connection, project_id: UUID, invitation_id: UUID) -> bool:
    """False when there is none that waits, or the caller may not."""
    done = await connection.execute(
        f"UPDATE invitations SET revoked_at = now() WHERE project_id = $1 AND id = $2 AND {_OPEN}",  # noqa: S608  fixed text
        *(project_id, invitation_id),
    )
    return done == "UPDATE 1"


async def find(database: Database, token: str) -> Invitation | None:
    """What the link with ``token`` is about, whatever has become of it; ``None`` for one that never was."""
    if not is_wellformed(token, TOKEN):
        return None
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM find_invitation($1)", token_hash(token))
    return None if row is None else Invitation(**row)


@traced
async def mine(connection: Connection) -> list[Invitation]:
    """As a person: those that wait for them, by the address they are signed in with."""
    return [Invitation(**row) for row in await connection.fetch("SELECT * FROM my_invitations()")]


@traced
async def answer(connection: Connection, project_id: UUID, invitation_id: UUID, *, accept: bool) -> Answer:
    """As the person it is for. Raises ``AppError`` when nothing waits for them there."""
    found: Answer | None = await connection.fetchval(
        "SELECT answer_invitation($1, $2, $3)", project_id, invitation_id, accept
    )
    if found is None:
        raise not_found("invitation", "Ask whoever invited you to send it again.")
    return found


async def is_invited(database: Database, address: str) -> bool:
    """Whether an invitation to this address is open, which lets it sign up where nobody may by themselves."""
    async with database.system() as connection:
        return bool(await connection.fetchval("SELECT is_invited($1)", address))


async def _check_number(connection: Connection, address: str) -> None:
    row = await connection.fetchrow("SELECT * FROM count_invitations($1)", address)
    if row is None:
        raise RuntimeError("the function answers with one row")
    for sent, most, whose in (
        (row["of_project"], OF_PROJECT, "from this project"),
        (row["of_person"], OF_PERSON, "by you"),
        (row["to_address"], TO_ADDRESS, "to this address"),
    ):
        if sent >= most:
            raise AppError(
                "too_many_invitations",
                429,
                f"{sent} invitations went out {whose} within a day; {most} may.",
                "Send the rest tomorrow. One that was sent is open for 7 days.",
                retryable=True,
                retry_after=3600,
            )


async def _sent(
    connection: Connection, project_id: UUID, inviter: UUID, address: str, sent: Sent, seal: Seal | None
) -> Sent:
    if seal is None:
        return sent
    row = await connection.fetchrow(
        "SELECT p.name AS project, coalesce(nullif(u.name, ''), u.email) AS inviter FROM projects p, users u"
        " WHERE p.id = $1 AND u.id = $2",
        *(project_id, inviter),
    )
    if row is None:
        raise not_found("project")
    await house_mails.queue_invitation(
        connection,
        address,
        seal(sent.token),
        inviter=row["inviter"],
        project=row["project"],
        expires_at=sent.expires_at,
    )
    return Sent(sent.id, sent.token, sent.expires_at, True)
