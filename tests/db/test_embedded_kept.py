"""An embedded PostgreSQL that goes away under its owner: started again, or given up with its last words."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from db.embedded import EmbeddedError, EmbeddedPostgres, kept
from tests.conftest import eventually
from tests.db.owners import commit, fetch, processes_in, start

ENDLESS = "DO $$ BEGIN LOOP NULL; END LOOP; END $$"


def watchdog_of(cluster: EmbeddedPostgres) -> int:
    return int(Path(f"/proc/{cluster.pid}/stat").read_text().rpartition(")")[2].split()[1])


class Told:
    """What the keeper says, and waiting for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._new = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._new.set()

    async def until(self, beginning: str) -> None:
        async with asyncio.timeout(60):
            while not self.lines or not self.lines[-1].startswith(beginning):
                self._new.clear()
                await self._new.wait()


async def killed(told: Told, cluster: EmbeddedPostgres, pid: int, number: signal.Signals) -> None:
    told.lines.append("")
    os.kill(pid, number)
    await told.until("PostgreSQL answers again after")
    assert await fetch(cluster.owner_url, "SELECT answer FROM kept") == 7


@pytest.mark.promise("HOME-05", "RUN-26")
async def test_killed_or_stopped_by_others_it_is_started_again_and_has_what_was_committed(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.embedded.cluster.STOPPING_SECONDS", 0.05)
    monkeypatch.setattr("db.embedded.keeper.APART", 0.05)
    told = Told()
    given_up = asyncio.Event()
    cluster = await start(made)
    try:
        await commit(cluster.owner_url, "CREATE TABLE kept AS SELECT 7 AS answer")
        async with kept(cluster, told, given_up.set):
            busy = await asyncpg.connect(cluster.owner_url)
            working = asyncio.create_task(busy.execute(ENDLESS))
            await eventually(lambda: is_busy(cluster), 30)
            # Its statement does not look whether the server lives, and holds the memory that a new one must not share.
            await killed(told, cluster, cluster.pid, signal.SIGKILL)
            with pytest.raises(asyncpg.ConnectionDoesNotExistError):
                await working
            await killed(told, cluster, watchdog_of(cluster), signal.SIGKILL)
            idle = await asyncpg.connect(cluster.owner_url)
            await killed(told, cluster, cluster.pid, signal.SIGTERM)  # smart: it would wait for the idle one
            idle.terminate()
        assert len(processes_in(cluster.data)) > 1
    finally:
        await cluster.stop()
    assert not processes_in(cluster.data)
    reasons = [line.partition(": ")[2] for line in told.lines if "went away" in line]
    assert reasons == ["killed by signal 9", "its watchdog was killed", "somebody stopped it"]
    assert not given_up.is_set()


async def is_busy(cluster: EmbeddedPostgres) -> bool:
    others = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %')"
    return bool(await fetch(cluster.owner_url, others))


@pytest.mark.promise("HOME-06")
async def test_what_cannot_be_started_again_is_given_up_with_its_last_words_and_a_waiting_attempt_is_cancelled(
    made: Path,
) -> None:
    told = Told()
    given_up = asyncio.Event()
    cluster = await start(made)
    settings = cluster.data / "postgresql.auto.conf"

    async def broken() -> None:
        settings.write_text("no_such_setting = 1\n")
        async with kept(cluster, told, given_up.set, pauses=(0.0, 0.01)):
            os.kill(cluster.pid, signal.SIGQUIT)
            await given_up.wait()

    try:
        with pytest.raises(EmbeddedError, match="no_such_setting"):
            await broken()
        assert told.lines[-1].startswith("attempt 2 of 2 failed: PostgreSQL stopped. Its last words were:")
        settings.write_text("")
        await cluster.start_again(told)
        settings.write_text("no_such_setting = 1\n")
        async with kept(cluster, told, given_up.clear, pauses=(0.0, 600.0)):
            os.kill(cluster.pid, signal.SIGQUIT)
            await told.until("the next attempt is in 600 s")
        assert given_up.is_set(), "an end that was wanted is no giving up"
        (made / "postgres.lock").rename(made / "away")
        (made / "postgres.lock").touch()
        with pytest.raises(EmbeddedError, match="was removed or replaced while it was in use"):
            await cluster.start_again(told)
        (made / "away").rename(made / "postgres.lock")
    finally:
        await cluster.stop()
    settings.write_text("")
    again = await start(made)  # its directory was given free
    await again.stop()
