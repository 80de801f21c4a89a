"""Grants: what a person or an operator lets a client do, and the tokens that come of it.

A grant is a credential of the kind ``oauth``. It stays the same while its tokens change, so that limits, approvals and
idempotency keys of a client outlive the hour of an access token. Raises ``AppError`` whose codes are those of RFC 6749
5.2 and RFC 8707.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.errors import AppError
from db.ids import uuid7
from db.oauth.clients import Client
from db.oauth.tokens import ACCESS_LIFE, CODE, REFRESH, REFRESH_LIFE, Issued, Pair, new_salt, successor
from db.tokens import ACCESS, is_wellformed, new_token, token_hash

if TYPE_CHECKING:
    import asyncpg

    from db.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Consent:
    """What a client may do. ``project_ids``: ``None`` for every project of the user, also those to come."""

    scopes: tuple[str, ...]
    project_ids: tuple[UUID, ...] | None = None
    read_only: bool = False

    @property
    def said(self) -> str:
        """In words, for the audit log."""
        where = "all projects" if self.project_ids is None else " ".join(str(one) for one in self.project_ids)
        return f"{' '.join(self.scopes)} in {where}{', read-only' if self.read_only else ''}"


@dataclass(frozen=True, slots=True)
class Asked:
    """The request that a code answers. ``request_id``: the same one is answered once."""

    request_id: UUID
    client: Client
    redirect_uri: str
    challenge: str
    audience: str


async def issue_code(connection: Connection, person: UUID, asked: Asked, consent: Consent) -> str:
    """A code for ``consent``, good for a minute. Runs in a transaction of the person. Raises ``AppError`` when the
    request was answered before."""
    code = new_token(CODE)
    issued = await connection.execute(
        "INSERT INTO oauth_codes (code_hash, request_id, user_id, client_id, redirect_uri, challenge, scopes,"
        " project_ids, read_only, audience) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        *(token_hash(code), asked.request_id, person, asked.client.id, asked.redirect_uri, asked.challenge),
        *(list(consent.scopes), _listed(consent), consent.read_only, asked.audience),
    )
    if issued != "INSERT 0 1":
        raise AppError(
            "request_answered", 409, "This request was answered before.", "Go back to your application and begin anew."
        )
    return code


async def redeem(
    database: Database, client: Client, code: str, redirect_uri: str | None, challenge: str, audience: str | None
) -> Issued:
    """``redirect_uri`` and ``audience``: as the client repeats them, if it does; ``challenge``: of its verifier."""
    pair = Pair.new(refreshable=client.refreshable)
    row = await _asked(
        database,
        "SELECT * FROM redeem_code($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *(token_hash(code), client.id, redirect_uri, challenge, audience, uuid7(), *pair.stored),
    )
    if row["outcome"] != "granted":
        raise refusal(row["outcome"])
    return pair.issued(row["scopes"])


async def refresh(
    database: Database, client: Client, token: str, scopes: list[str] | None, audience: str | None
) -> Issued:
    """New tokens for a refresh token. All who present the same one get the same successor."""
    if not is_wellformed(token, REFRESH):
        raise refusal("unknown")
    access, salt = new_token(ACCESS), new_salt()
    row = await _asked(
        database,
        "SELECT * FROM refresh_grant($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(token_hash(token), client.id, scopes, audience, salt, token_hash(successor(token, salt))),
        *(REFRESH_LIFE, token_hash(access), ACCESS_LIFE),
    )
    if row["outcome"] != "granted":
        raise refusal(row["outcome"])
    return Issued(access, successor(token, row["salt"]), tuple(row["scopes"]))


async def serve(database: Database, client: Client, scopes: list[str] | None, audience: str) -> Issued:
    """A token for a service account, which its secret has proven (RFC 6749 4.4)."""
    access = new_token(ACCESS)
    row = await _asked(
        database,
        "SELECT * FROM issue_to_service($1, $2, $3, $4, $5, $6)",
        *(client.id, scopes, audience, uuid7(), token_hash(access), ACCESS_LIFE),
    )
    if row["outcome"] == "unknown":
        raise AppError(
            "unauthorized_client", 400, "This client is no service account.", "Ask the operator to make one."
        )
    if row["outcome"] != "granted":
        raise refusal(row["outcome"])
    return Issued(access, None, tuple(row["scopes"]))


async def revoke(database: Database, client: Client, token: str) -> None:
    """Make a token of this client useless; a refresh token takes its whole grant along. Others are left alone."""
    async with database.entering() as connection:
        await connection.execute("SELECT revoke_token($1, $2)", token_hash(token), client.id)


async def introspect(database: Database, token: str) -> asyncpg.Record | None:
    """What a live OAuth token is worth: ``kind, scopes, client_id, user_id, audience, read_only, created_at,
    expires_at``; ``None`` for every other."""
    async with database.system() as connection:
        return await connection.fetchrow("SELECT * FROM introspect_token($1)", token_hash(token))


async def _asked(database: Database, query: str, *arguments: object) -> asyncpg.Record:
    async with database.entering() as connection:
        row = await connection.fetchrow(query, *arguments)
    if row is None:
        raise RuntimeError("the function answers with one row")
    return row


def _listed(consent: Consent) -> list[UUID] | None:
    return None if consent.project_ids is None else list(consent.project_ids)


_AGAIN: Final = "Send the person to the authorization endpoint again."


def refusal(outcome: str) -> AppError:
    """Why the database granted nothing."""
    if outcome == "scope":
        return AppError(
            "invalid_scope", 400, "The scopes go beyond those that were granted.", "Ask for some of these, or for none."
        )
    if outcome == "audience":
        return AppError(
            "invalid_target",
            400,
            "The resource is not the one that was agreed to.",
            "Name the same resource as in the authorization request, or none.",
        )
    return AppError("invalid_grant", 400, _REASONS.get(outcome, _REASONS["unknown"]), _AGAIN)


_REASONS: Final = {
    "unknown": "This code or token is unknown, of another client, or was revoked.",
    "expired": "This code or token has expired.",
    "replayed": "This was used before; what came of it is revoked, because somebody else may have it.",
    "redirect_uri": "The redirect_uri is not the one of the authorization request.",
    "verifier": "The code_verifier does not belong to the code_challenge of the authorization request.",
}
