"""Who owns an embedded PostgreSQL: kill -9 of the owner, races for its directory, and tasks beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import asyncpg
import pytest

from db.embedded import DataDirectoryInUse, EmbeddedError, EmbeddedPostgres
from tests.db.owners import (
    AS_ROOT,
    commit,
    dispose,
    fetch,
    first_line,
    lives,
    processes_in,
    spawn_owner,
    start,
    wait_for,
)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def spawn_stranger(uid: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], cwd="/", user=uid)


@pytest.mark.promise("HOME-05")
async def test_kill_9_of_the_owner_stops_postgres_and_the_next_start_keeps_what_was_committed(made: Path) -> None:
    owner = spawn_owner(made)
    try:
        _, pid, url = first_line(owner).split()
        await commit(url, "CREATE TABLE kept AS SELECT 1 AS answer")
        busy = await asyncpg.connect(url)
        open_transaction = busy.transaction()
        await open_transaction.start()
        await busy.execute("INSERT INTO kept VALUES (2)")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_for(lambda: not lives(int(pid)) and not processes_in(made / "postgres"))
        busy.terminate()
    finally:
        dispose(owner)
    cluster = await start(made)
    try:
        assert await fetch(cluster.owner_url, "SELECT count(*) FROM kept") == 1
    finally:
        await cluster.stop()


@pytest.mark.promise("HOME-05")
async def test_a_start_right_after_kill_9_waits_for_the_old_postgres_to_end(made: Path) -> None:
    owner = spawn_owner(made)
    try:
        assert first_line(owner).startswith("ready")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        cluster = await start(made)
        await cluster.stop()
    finally:
        dispose(owner)


@pytest.mark.promise("HOME-05")
async def test_postgres_that_outlived_owner_and_watchdog_is_stopped_at_the_next_start(made: Path) -> None:
    owner = spawn_owner(made)
    try:
        pid = int(first_line(owner).split()[1])
        os.kill(parent_of(pid), signal.SIGKILL)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert lives(pid)
        lines: list[str] = []
        cluster = await start(made, lines)
        await cluster.stop()
    finally:
        dispose(owner)
    assert "stopped a PostgreSQL that an earlier process left running" in lines
    assert not lives(pid)


async def test_crash_of_postgres_itself_is_recovered_from_even_when_its_pid_is_taken_again(made: Path) -> None:
    cluster = await start(made)
    await commit(cluster.owner_url, "CREATE TABLE kept AS SELECT 7 AS answer")
    os.kill(cluster.pid, signal.SIGKILL)
    wait_for(lambda: not cluster.running and not processes_in(cluster.data))
    await cluster.stop()
    stranger = spawn_stranger(cluster.data.stat().st_uid if AS_ROOT else None)
    try:
        lock = cluster.data / "postmaster.pid"
        lock.write_text(lock.read_text().replace(str(cluster.pid), str(stranger.pid), 1))
        again = await start(made)
        assert await fetch(again.owner_url, "SELECT answer FROM kept") == 7
        await again.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.promise("HOME-05")
async def test_second_start_says_who_has_the_directory_and_what_to_do(made: Path) -> None:
    cluster = await start(made)
    try:
        with pytest.raises(DataDirectoryInUse) as refused:
            await start(made)
        assert refused.value.pid == os.getpid()
        assert str(os.getpid()) in refused.value.message
        assert refused.value.hint is not None
        assert "name another data directory" in refused.value.hint
    finally:
        await cluster.stop()


@pytest.mark.promise("HOME-05")
async def test_of_four_racing_processes_one_owns_the_directory(folder: Path) -> None:
    owners = [spawn_owner(folder) for _ in range(4)]
    try:
        answers = await asyncio.gather(*(asyncio.to_thread(first_line, owner) for owner in owners))
        words = sorted(answer.split()[0] for answer in answers)
        assert words == ["data_directory_in_use"] * 3 + ["ready"]
        winner = owners[[answer.startswith("ready") for answer in answers].index(True)]
        winner.communicate("stop\n", timeout=60)
        assert sorted(owner.wait() for owner in owners) == [0, 3, 3, 3]
    finally:
        for owner in owners:
            dispose(owner)


@pytest.mark.promise("HOME-07")
async def test_a_short_task_reaches_the_database_of_the_running_process_or_starts_it(folder: Path) -> None:
    with pytest.raises(EmbeddedError, match="No database"):
        await EmbeddedPostgres.attach(folder)
    cluster = await start(folder)
    try:
        async with EmbeddedPostgres.reach(folder, progress=lambda _line: None) as addresses:
            assert addresses.owner_url == cluster.owner_url
            await fetch(addresses.owner_url, "CREATE TABLE kept AS SELECT 3 AS answer")
        assert cluster.running
    finally:
        await cluster.stop()
    with pytest.raises(EmbeddedError, match="No database"):
        await EmbeddedPostgres.attach(folder)
    async with EmbeddedPostgres.reach(folder, progress=lambda _line: None) as addresses:
        assert await fetch(addresses.app_url, "SELECT current_user") == "innkeeper_app"
        assert await fetch(addresses.owner_url, "SELECT answer FROM kept") == 3
    assert not processes_in(cluster.data)
