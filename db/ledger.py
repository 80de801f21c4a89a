"""Saved answers of writes, and the audit log: rows of the credential, written in the transaction of the effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from db.errors import conflict, invalid, not_found
from db.ids import uuid7
from db.principal import Principal
from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

KEY_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class Saved:
    """The answer a key was given before, as JSON. ``project_id``: where the write took place, if in a project."""

    answer: bytes
    project_id: UUID | None


def digest(tool: str, arguments: Mapping[str, Any]) -> bytes:
    """SHA-256 over the tool and its validated arguments in one canonical form."""
    canonical = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"), default=plain)
    return sha256(canonical.encode()).digest()


@traced
async def claim(
    connection: Connection, principal: Principal, key: str, tool: str, arguments_digest: bytes, project_id: UUID | None
) -> Saved | None:
    """Claim ``key`` for this write, or return the answer it already has.

    A second call with the same key waits here for the first one's commit. Raises ``AppError``
    ``idempotency_key_reused`` when the key was used for something else within its 24 hours.
    """
    if not 0 < len(key) <= KEY_LENGTH or not key.isprintable():
        raise invalid(
            f"An idempotency key is 1 to {KEY_LENGTH} printable characters.",
            "Use a UUID.",
            details={"idempotency_key": "new"},
        )
    claimed = await connection.fetchval(
        "INSERT INTO idempotency AS i (credential_id, key, tool, arguments_digest, project_id)"
        " VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (credential_id, key) DO UPDATE SET tool = excluded.tool, answer = NULL,"
        " arguments_digest = excluded.arguments_digest, project_id = excluded.project_id, created_at = now(),"
        " expires_at = now() + interval '24 hours' WHERE i.expires_at < now() RETURNING true",
        *(principal.credential_id, key, tool, arguments_digest, project_id),
    )
    if claimed:
        return None
    row = await connection.fetchrow(
        "SELECT arguments_digest, answer, project_id FROM idempotency WHERE credential_id = $1 AND key = $2",
        *(principal.credential_id, key),
    )
    if row is None or bytes(row["arguments_digest"]) != arguments_digest or row["answer"] is None:
        raise conflict(
            "idempotency_key_reused",
            "This idempotency key was already used for another call or other arguments.",
            "Repeat a call with exactly the same arguments, or use a new key for a new call.",
            {"idempotency_key": "new"},
        )
    return Saved(row["answer"], row["project_id"])


@traced
async def require_membership(connection: Connection, saved: Saved, *, ended: bool) -> None:
    """A saved answer is shown only to who may still read the project it came from, or who ended that project."""
    if saved.project_id is None or ended:
        return
    if not await connection.fetchval("SELECT readable_project() = $1", saved.project_id):
        raise not_found("project")


@traced
async def save(connection: Connection, principal: Principal, key: str, answer: bytes) -> None:
    """Keep the answer of a write, whose record is there, in the transaction of its effect. ``answer``: UTF-8 JSON."""
    await connection.execute(
        "UPDATE idempotency SET answer = $3 WHERE credential_id = $1 AND key = $2",
        *(principal.credential_id, key, answer),
    )


@traced
async def audit(
    connection: Connection,
    principal: Principal,
    project_id: UUID | None,
    action: str,
    target: str | None,
    detail: str | None = None,
) -> None:
    """Add one act of the caller's to the audit log, in the transaction of what was done."""
    await connection.execute(
        "INSERT INTO audit (id, credential_id, user_id, project_id, run_id, action, target, detail)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        *(uuid7(), principal.credential_id, principal.user_id, project_id, principal.run_id, action, target, detail),
    )


def plain(value: object) -> object:
    """What ``json.dumps`` makes of a value that is none of its own: models as objects, everything else as text."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump else str(value)
