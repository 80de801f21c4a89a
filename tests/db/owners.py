"""Processes that own an embedded PostgreSQL, and what can be seen of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from db.embedded import EmbeddedPostgres
from tests.db.clusters import copy_data_directory, open_folder

CHECKOUT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
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


@pytest.fixture(scope="session")
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


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll until the condition holds."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not happen in time"
        time.sleep(0.02)


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


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
