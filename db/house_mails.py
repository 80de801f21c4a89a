"""What the house itself writes to people: queued in the transaction of what it is about, delivered by a job.

Any connection will do, also one of nobody (``Database.system``): a link to sign in with goes to people we do not know
yet. Each function answers whether there will be a mail. ``sealed_link``: an address that opens something, as
``server.mail.house.sealed`` makes it; it is forgotten when the mail has left. The first message and a budget that is
used up are told by the database itself (``tell_first_message``, ``tell_budget``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID

from db.ids import uuid7
from db.spans import traced

if TYPE_CHECKING:
    import asyncpg

    from db.accounts import Owner
    from db.database import Connection

_SHOWN: Final = "id, kind, address, name, variables, status, error, created_at"
Kind: TypeAlias = Literal["magic_link", "invitation"]


async def queue_welcome(connection: Connection | Owner, user_id: UUID) -> bool:
    """For an account that is new: the welcome, once, and (by a job of its own) a place in the audience."""
    return bool(await connection.fetchval("SELECT welcome_user($1, $2)", user_id, uuid7()))


async def queue_magic_link(connection: Connection, address: str, sealed_link: bytes, *, expires_at: datetime) -> bool:
    """A link to sign in with, to whoever has the mailbox. Not sent any more once it has expired."""
    return await _queue(connection, "magic_link", address, {}, sealed_link, expires_at)


async def queue_invitation(
    connection: Connection, address: str, sealed_link: bytes, *, inviter: str, project: str, expires_at: datetime
) -> bool:
    """``inviter`` invites to ``project``: both are names as people know them."""
    variables = {"inviter": inviter, "project": project}
    return await _queue(connection, "invitation", address, variables, sealed_link, expires_at)


@traced
async def _queue(
    connection: Connection,
    kind: Kind,
    address: str,
    variables: Mapping[str, str],
    secret: bytes,
    expires_at: datetime,
) -> bool:
    """To an address, whether or not there is an account that has it."""
    return bool(
        await connection.fetchval(
            "SELECT queue_house_mail($1, $2, NULL, $3, '', $4, $5, NULL, $6)",
            *(uuid7(), kind, address, dict(variables), secret, expires_at),
        )
    )


@traced
async def page(connection: Connection, *, limit: int) -> list[asyncpg.Record]:
    """As a person: the latest of what the house wrote to them. Never what opens something."""
    return await connection.fetch(
        f"SELECT {_SHOWN} FROM house_mails WHERE user_id = (SELECT acting_user()) ORDER BY id DESC LIMIT $1",  # noqa: S608  fixed text
        limit,
    )


@traced
async def fetch(connection: Connection, mail_id: UUID) -> asyncpg.Record | None:
    """As a person: one of these."""
    return await connection.fetchrow(
        f"SELECT {_SHOWN} FROM house_mails WHERE user_id = (SELECT acting_user()) AND id = $1",  # noqa: S608  fixed text
        mail_id,
    )


@traced
async def begin(connection: Connection, mail_id: UUID) -> tuple[asyncpg.Record | None, str | None]:
    """As ops: count one more attempt at a mail that waits for one, if it does; and why it must not be sent, if so."""
    row = await connection.fetchrow("SELECT (mail).*, suppressed FROM begin_house_mail($1)", mail_id)
    return (None, None) if row is None or row["id"] is None else (row, row["suppressed"])


@traced
async def hand_over(connection: Connection, mail_id: UUID, attempt: int, route: str) -> bool:
    """As ops: the mail is about to leave by ``route``. False: another attempt has begun since."""
    return bool(await connection.fetchval("SELECT hand_over_house_mail($1, $2, $3)", mail_id, attempt, route))


@traced
async def settle(
    connection: Connection,
    mail_id: UUID,
    attempt: int,
    *,
    status: str,
    detail: str | None,
    provider_id: str | None,
    not_on_its_way: bool,
    again: datetime | None,
) -> None:
    """As ops: what came of an attempt; with ``status`` queued the next one begins at ``again``."""
    await connection.execute(
        "SELECT settle_house_mail($1, $2, $3, $4, $5, $6, $7)",
        *(mail_id, attempt, status, detail, provider_id, not_on_its_way, again),
    )


@traced
async def candidate(connection: Connection, user_id: UUID) -> tuple[str, str] | None:
    """As ops: address and name of an account that may join the audience."""
    row = await connection.fetchrow("SELECT * FROM audience_candidate($1)", user_id)
    return None if row is None or row["address"] is None else (row["address"], row["name"])
