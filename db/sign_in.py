"""Signing in and up with a link that is sent to an address: it opens one session, in the browser that asked for it.

Of link and browser only hashes are kept. An account that is new comes with its project, its welcome and its place in
the audience in the same transaction as its first session.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from db import house_mails
from db.ids import uuid7
from db.scopes import ALL_SCOPES
from db.sessions import SESSION, SESSION_SECONDS
from db.tokens import HINT, is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.database import Database

LINK: Final = "ik_ml_"
LIFE: Final = timedelta(minutes=15)
Outcome: TypeAlias = Literal["signed_in", "signed_up", "live", "closed", "elsewhere"]
"""``closed``: used, expired, never one of ours, or of somebody not let in; ``elsewhere``: of another browser."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A link that was made. ``opens``: whether it opens anything; only then it may be told to anybody."""

    token: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Used:
    """``session``: the token of the session that was opened, if one was; ``next``: where the person wanted to go."""

    outcome: Outcome
    session: str | None = None
    next: str = ""


async def ask(
    database: Database,
    address: str,
    *,
    browser: str,
    sign_up: bool,
    next_page: str,
    sealed: Callable[[str], bytes] | None,
) -> Asked:
    """Make a link for ``address``, and queue its mail in the same transaction.

    ``browser``: what only the browser that asks knows; ``sign_up``: whether the address may have an account made;
    ``sealed``: makes what the mail carries of the link's token, ``None`` when no mail is to be sent.
    """
    token = new_token(LINK)
    async with database.entering() as connection:
        opens = bool(
            await connection.fetchval(
                "SELECT ask_sign_in($1, $2, $3, $4, $5, $6)",
                *(token_hash(token), _known_by(browser), address, sign_up, next_page, LIFE),
            )
        )
        if opens and sealed is not None:
            await house_mails.queue_magic_link(connection, address, sealed(token), expires_at=datetime.now(UTC) + LIFE)
    return Asked(token, opens)


async def find(database: Database, token: str, browser: str) -> tuple[Outcome, str | None]:
    """What a link would do, and for which address; nothing is used up."""
    if not is_wellformed(token, LINK):
        return "closed", None
    async with database.system() as connection:
        row = await connection.fetchrow("SELECT * FROM find_sign_in($1, $2)", token_hash(token), _known_by(browser))
    return (row["outcome"], row["address"]) if row is not None else ("closed", None)


async def use(database: Database, token: str, browser: str) -> Used:
    """Use a link up: a session, and the account with all that belongs to it if there was none."""
    if not is_wellformed(token, LINK):
        return Used("closed")
    session = new_token(SESSION)
    async with database.entering() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM use_sign_in($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            *(token_hash(token), _known_by(browser), uuid7(), uuid7(), uuid7(), uuid7()),
            *(token_hash(session), session[:HINT], sorted(ALL_SCOPES), timedelta(seconds=SESSION_SECONDS)),
        )
    if row is None or row["outcome"] not in ("signed_in", "signed_up"):
        return Used("closed" if row is None else row["outcome"])
    return Used(row["outcome"], session, row["next"])


async def note_limit(database: Database, address: str) -> None:
    """For the audit log: there were too many tries to sign in with ``address``, if it has an account. Once an hour."""
    async with database.entering() as connection:
        await connection.execute("SELECT note_sign_in_limit($1)", address)


async def note_refused(database: Database, token: str) -> None:
    """For the audit log: the link of ``token`` was opened in another browser than the one that asked for it. Once an
    hour."""
    async with database.entering() as connection:
        await connection.execute(
            "SELECT note_sign_in_refused($1, NULL, NULL, 'mail', 'in another browser')", token_hash(token)
        )


def _known_by(browser: str) -> bytes:
    return sha256(browser.encode()).digest()
