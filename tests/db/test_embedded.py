"""The embedded PostgreSQL: making it, starting it, and what keeps it from that. Real clusters."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import asyncpg
import pytest

from db.embedded import EmbeddedError, EmbeddedPostgres
from tests.db.owners import fetch, mode_of, processes_in, start
from tests.machine import Stopwatch, within


@pytest.mark.promise("HOME-02", "HOME-30")
async def test_first_start_makes_the_cluster_and_the_second_finds_its_rows(folder: Path) -> None:
    lines: list[str] = []
    cluster = await start(folder, lines)
    try:
        assert lines == ["creating the database cluster", f"starting PostgreSQL {cluster.server_version}"]
        assert cluster.server_version.startswith("18.")
        await fetch(cluster.owner_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    finally:
        await cluster.stop()
    assert not processes_in(cluster.data)
    again = await start(folder, lines)
    try:
        assert lines[2:] == [f"starting PostgreSQL {cluster.server_version}"]
        assert await fetch(again.owner_url, "SELECT answer FROM kept") == 42
    finally:
        await again.stop()

    async def warm() -> float:
        watch = Stopwatch()
        again = await start(folder)
        took = watch.seconds()
        await again.stop()
        return took

    await within(2.0, warm)  # 0.1 s when the machine is idle


@pytest.mark.promise("HOME-30")
async def test_roles_have_no_power_beyond_their_task_and_log_in_with_a_password_only(folder: Path) -> None:
    cluster = await start(folder)
    try:
        powers = "rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication"
        query = f"SELECT count(*) FROM pg_roles WHERE rolname LIKE 'innkeeper%' AND NOT ({powers}) AND rolcanlogin"
        assert await fetch(cluster.app_url, query) == 3
        inheriting = "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname LIKE 'innkeeper%' AND rolinherit"
        assert await fetch(cluster.app_url, inheriting) == "innkeeper_owner"
        assert await fetch(cluster.ops_url, "SELECT current_user") == "innkeeper_ops"
        assert await fetch(cluster.owner_url, "SHOW listen_addresses") == ""
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        assert await fetch(cluster.owner_url, owner) == "innkeeper_owner"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(cluster.app_url.replace(":", ":wrong", 2).replace(":wrong", ":", 1), "SELECT 1")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await fetch(cluster.app_url, "CREATE TABLE mine ()")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await fetch(cluster.url("postgres", "innkeeper_app"), "SELECT 1")
        methods = "SELECT DISTINCT auth_method FROM pg_hba_file_rules"
        assert await fetch(cluster.superuser_url, methods) == "scram-sha-256"
        await fetch(cluster.owner_url, "CREATE EXTENSION pg_trgm")
        assert await fetch(cluster.app_url, "SELECT 1 FROM pg_extension WHERE extname = 'vector'") == 1
    finally:
        await cluster.stop()
    secret = folder / "postgres.json"
    assert mode_of(secret) == 0o600
    assert len(set(json.loads(secret.read_text())["passwords"].values())) == 4


async def test_a_long_path_gets_a_socket_in_a_short_private_folder(folder: Path) -> None:
    cluster = await start(folder / ("long" * 20) / ("path" * 20))
    try:
        sockets = Path(str(await fetch(cluster.superuser_url, "SHOW unix_socket_directories")))
        assert sockets != cluster.data
        assert mode_of(sockets) == 0o700
    finally:
        await cluster.stop()
    assert not os.path.lexists(sockets)


@pytest.mark.promise("HOME-06")
async def test_an_unwritable_directory_is_named_with_what_to_do(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be written") as refused:
        await start(folder / "file" / "data")
    assert refused.value.hint is not None
    assert "chown" in refused.value.hint


@pytest.mark.promise("HOME-06")
async def test_a_server_that_cannot_start_says_the_last_lines_of_its_log(made: Path) -> None:
    cluster = await start(made)
    await cluster.stop()
    (cluster.data / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="no_such_setting") as refused:
        await start(made)
    assert str(made / "postgres.log") in (refused.value.hint or "")
    (cluster.data / "postgresql.auto.conf").write_text("")
    again = await start(made)  # the failed start gave the directory free
    await again.stop()


@pytest.mark.promise("HOME-06")
async def test_a_lost_folder_or_lost_passwords_never_become_an_empty_database(made: Path) -> None:
    cluster = await start(made)
    await cluster.stop()
    cluster.data.rename(made / "away")
    with pytest.raises(EmbeddedError, match="is gone") as refused:
        await start(made)
    assert refused.value.code == "database_folder_missing"
    (made / "away").rename(cluster.data)
    (made / "postgres.json").rename(made / "lost.json")
    with pytest.raises(EmbeddedError, match="passwords is gone"):
        await start(made)
    (made / "postgres.json").write_text("{}")
    with pytest.raises(EmbeddedError, match="damaged"):
        await start(made)


async def test_a_cancelled_start_leaves_nothing_running(folder: Path) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(line: str) -> None:
        if line.startswith("starting"):
            loop.call_soon(started.set)

    task = asyncio.create_task(EmbeddedPostgres.start(folder, progress=note, fast_unsafe=True))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_in(folder / "postgres")
    cluster = await start(folder)
    await cluster.stop()
