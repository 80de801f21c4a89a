"""Devices that cannot show a page: a person types the code that the device shows (RFC 8628)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from db import ledger
from db.errors import AppError, not_found
from db.ids import uuid7
from db.oauth.clients import Client
from db.oauth.grants import Consent, refusal
from db.oauth.tokens import DEVICE, Issued, Pair
from db.tokens import is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    from db.database import Database
    from db.principal import Principal

LIFE: Final = timedelta(minutes=15)
INTERVAL: Final = 5
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words, and nothing that is taken for something else (RFC 8628 6.1)."""
LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device that waits, as the person sees it who typed its code."""

    client_id: str
    scopes: tuple[str, ...]
    audience: str
    until: datetime


async def start(database: Database, client: Client, scopes: list[str], audience: str) -> tuple[str, str]:
    """The device's own code, and the one it shows."""
    while True:
        device, shown = new_token(DEVICE), "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        async with database.system() as connection:
            if await connection.fetchval(
                "SELECT start_device($1, $2, $3, $4, $5, $6)",
                *(token_hash(device), token_hash(shown), client.id, scopes, audience, LIFE),
            ):
                return device, f"{shown[:4]}-{shown[4:]}"


def typed(text: str) -> str:
    """A code as people type it: small letters, spaces and dashes do not matter."""
    return "".join(letter for letter in text.upper() if letter in LETTERS)


async def find(database: Database, person: Principal, user_code: str) -> Waiting:
    """Raises ``AppError`` when no device waits with this code."""
    async with database.transaction(person) as connection:
        row = await connection.fetchrow("SELECT * FROM find_device($1)", token_hash(typed(user_code)))
    if row is None:
        raise _gone()
    return Waiting(row["client_id"], tuple(row["scopes"]), row["audience"], row["expires_at"])


async def decide(
    database: Database, person: Principal, user_code: str, client_id: str, consent: Consent | None
) -> None:
    """Let the device of ``client_id`` in as ``consent`` says, or turn it away with none. Raises ``AppError`` when it
    waits no more."""
    allowed = consent or Consent(())
    async with database.transaction(person) as connection:
        decided = await connection.fetchval(
            "SELECT decide_device($1, $2, $3, $4, $5)",
            *(token_hash(typed(user_code)), "denied" if consent is None else "approved", list(allowed.scopes)),
            *(None if allowed.project_ids is None else list(allowed.project_ids), allowed.read_only),
        )
        if decided:
            act = ("device:denied", client_id) if consent is None else ("device:allowed", client_id, consent.said)
            await ledger.audit(connection, person, None, *act)
    if not decided:
        raise _gone()


async def poll(database: Database, client: Client, device: str) -> Issued:
    """The tokens of a device that was let in. Raises ``AppError`` with the codes of RFC 8628 3.5 otherwise."""
    pair = Pair.new(refreshable=client.refreshable)
    row = None
    if is_wellformed(device, DEVICE):
        async with database.entering() as connection:
            row = await connection.fetchrow(
                "SELECT * FROM poll_device($1, $2, $3, $4, $5, $6, $7)",
                *(token_hash(device), client.id, uuid7(), *pair.stored),
            )
    outcome = "unknown" if row is None else row["outcome"]
    if row is not None and outcome == "granted":
        return pair.issued(row["scopes"])
    if outcome == "pending":
        raise AppError("authorization_pending", 400, "Nobody has decided yet.", "Ask again after the interval.", True)
    if outcome == "slow_down":
        raise AppError("slow_down", 400, "That was too soon.", "Wait five seconds longer each time from now on.", True)
    if outcome == "denied":
        raise AppError("access_denied", 400, "The person did not allow it.", "Stop asking.")
    if outcome == "expired":
        raise AppError("expired_token", 400, "Nobody decided in time.", "Begin anew with another code.")
    raise refusal(outcome)


def _gone() -> AppError:
    return not_found("device", "Check the code, or start the sign-in on your device again: codes hold 15 minutes.")
