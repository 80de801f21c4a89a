"""Long writes at work, seen from every process: a lock says that one is, a notification asks for its end.

Both go by a digest of credential and idempotency key, so neither says anything to who does not know the two. Nothing is
stored: a lock ends with the transaction that holds it, whatever becomes of its process.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.spans import traced

if TYPE_CHECKING:
    from db.database import Connection

CHANNEL: Final = "innkeeper_long_writes"


def digest(credential_id: UUID, key: str) -> str:
    """Names a write of a credential, in hexadecimal. Any text is a key here: whether it may be one is said later."""
    return sha256(credential_id.bytes + key.encode(errors="surrogatepass")).hexdigest()


@traced
async def clock(connection: Connection) -> int:
    """The time of the database, which all processes share, in microseconds."""
    return int(await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))


@traced
async def hold(connection: Connection, name: str) -> None:
    """Say until the end of this transaction that the write ``name`` is at work. Its repeats may say so too."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _lock(name))


@traced
async def ask_to_stop(connection: Connection, name: str) -> tuple[bool, int]:
    """Ask every process to end the write ``name``: the payload is the name and when it was asked (:func:`clock`).
    Returns whether any transaction holds the name, and that time. For a connection on which each statement commits by
    itself."""
    row = await connection.fetchrow(
        "WITH asked AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at)"
        " SELECT at, NOT pg_try_advisory_xact_lock($3) AS held, pg_notify($1, $2 || ' ' || at) FROM asked",
        *(CHANNEL, name, _lock(name)),
    )
    if row is None:
        raise RuntimeError("a SELECT from one row has one row")
    return bool(row["held"]), int(row["at"])


def _lock(name: str) -> int:
    return int.from_bytes(bytes.fromhex(name[:16]), signed=True)
