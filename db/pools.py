"""Pools of connections, all of which are made alike, and what it looks like when the server is lost."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

STATEMENT_SECONDS: Final = 30.0
REFUSING: Final = (
    # No connection, memory or room on the disk is left, or the disk does not work.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    # It has become a standby, or was told to take no writes for now.
    asyncpg.ReadOnlySQLTransactionError,
)
"""What a server says that is there and cannot serve for reasons of its own, which pass."""
LOST: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    # The server ended a transaction that stood still or took too long, and its connection.
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    # What a statement gets that is sent at the very moment the server closes the connection.
    asyncpg.InternalClientError,
    asyncio.TimeoutError,
    *REFUSING,
)


async def open_pool(url: str, min_size: int, max_size: int, *, statements: int = 100) -> Pool:
    """``statements``: how many each connection prepares and remembers; none behind a pooler. Raises ``LOST``."""
    return await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        command_timeout=STATEMENT_SECONDS,
        statement_cache_size=statements,
        init=_prepare,
        reset=_keep,
    )


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_json, decoder=json.loads, format="text")


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _keep(_connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """No reset between uses: every setting is SET LOCAL and no session state is ever made, so it would only cost."""
