"""Connections rest between two uses: whoever needs one gets one, and never one that is not as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.pools import STATEMENT_SECONDS
from db.principal import Principal
from db.transaction import Transaction
from tests.conftest import DatabaseUrls, Owner


@pytest.fixture
async def single(urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database of one connection."""
    database = await Database.open(urls.app, min_size=1, max_size=1)
    try:
        yield database
    finally:
        await database.close()


async def backend(database: Database) -> int:
    async with database.system() as connection:
        return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def test_the_same_connection_is_used_again_and_whoever_waits_for_it_gets_it(single: Database) -> None:
    first = await backend(single)
    async with single.system(), asyncio.timeout(60):
        waiting = [asyncio.create_task(backend(single)) for _ in range(3)]
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waiting) == [first] * 3
    assert single.stats().idle == 1


async def test_a_connection_that_died_at_rest_is_replaced(single: Database, urls: DatabaseUrls, owner: Owner) -> None:
    first = await backend(single)
    superuser = await asyncpg.connect(urls.superuser)
    await superuser.execute("SELECT pg_terminate_backend($1, 5000)", first)
    await superuser.close()
    with contextlib.suppress(AppError):  # the process may not have heard of it yet
        await backend(single)
    assert await backend(single) != first


async def test_what_was_cut_off_or_failed_leaves_nothing_to_the_next_use(single: Database) -> None:
    with pytest.raises(asyncpg.PostgresError):
        async with single.system() as connection:
            await connection.execute("SELECT nothing")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05), single.system() as connection:
            await connection.execute("SELECT pg_sleep(30)")
    async with asyncio.timeout(60), single.system() as connection:
        assert await connection.fetchval("SELECT 1") == 1
        assert not connection.is_in_transaction()


@pytest.mark.promise("RUN-26")
async def test_a_server_without_room_is_unavailable_and_a_write_that_is_a_defect_stays_one(
    single: Database, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    for state in ("53100", "53200", "58030"):  # no disk, no memory, a disk that fails (PostgreSQL, appendix A)
        with pytest.raises(AppError) as refused:
            async with single.system() as connection:
                await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END $$")
        assert (refused.value.code, refused.value.retryable) == ("unavailable", True)
    assert "the database refuses: no room" in caplog.messages
    nobody = Principal(uuid7(), uuid7(), None, None, frozenset())
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with single.transaction(nobody, read_only=True) as connection:
            await connection.execute("DELETE FROM projects")


@pytest.mark.promise("RUN-26")
async def test_a_server_that_stands_still_keeps_nobody_who_is_told_to_stop(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.transaction.UNDO_SECONDS", 0.1)
    monkeypatch.setattr("db.resting.RELEASE_SECONDS", 0.1)
    nobody = Principal(uuid7(), uuid7(), None, None, frozenset())

    async def waits(transaction: Transaction, at: asyncio.Future[int]) -> None:
        async with transaction as connection:
            at.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_sleep(600)")

    for transaction in (single.transaction(nobody), single.system()):
        at: asyncio.Future[int] = asyncio.Future()
        working = asyncio.create_task(waits(transaction, at))
        async with asyncio.timeout(60):
            pid = await at
        os.kill(pid, signal.SIGSTOP)
        try:
            working.cancel()
            # Else it waited for an answer to ROLLBACK as long as for any other.
            ended, _ = await asyncio.wait([working], timeout=STATEMENT_SECONDS / 2)
            assert ended
            assert working.cancelled()
            assert await backend(single) != pid
        finally:
            os.kill(pid, signal.SIGCONT)
