"""Backup and restore between real clusters, with forced row-level security as the migrations emit it."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from db.backup import backup, restore, verify
from db.backup.programs import for_libpq, installations
from db.embedded import EmbeddedPostgres
from db.embedded.binaries import wheel_folder
from db.errors import AppError
from migrations import runner
from tests.conftest import DatabaseUrls

SCHEMA = """
CREATE FUNCTION current_project() RETURNS uuid LANGUAGE sql STABLE AS
 $$ SELECT nullif(current_setting('app.project_id', true), '')::uuid $$;
CREATE TABLE parents (project_id uuid, id uuid, note text, body bytea, PRIMARY KEY (project_id, id));
CREATE TABLE children (project_id uuid, id uuid, parent_id uuid, PRIMARY KEY (project_id, id),
 FOREIGN KEY (project_id, parent_id) REFERENCES parents ON DELETE CASCADE);
CREATE TABLE alembic_version (version_num text PRIMARY KEY);
CREATE FUNCTION secret_count() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS
 $$ SELECT count(*) FROM parents $$;
REVOKE ALL ON FUNCTION secret_count() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION secret_count() TO innkeeper_ops;
COMMENT ON TABLE parents IS 'rows of innkeeper_app';
GRANT USAGE ON SCHEMA public TO innkeeper_app, innkeeper_ops;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
"""
PROTECTION = """
ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; ALTER TABLE {0} FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT ON {0} TO innkeeper_app;
CREATE POLICY tenant ON {0} TO innkeeper_app USING (project_id = (SELECT current_project()));
CREATE POLICY owner_all ON {0} TO innkeeper_owner USING (true) WITH CHECK (true);
"""
POLICIES = "SELECT tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2"
GRANTS = """SELECT relname, relacl::text, relrowsecurity, relforcerowsecurity, relowner::regrole::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"""
CONSTRAINTS = """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1"""


def quiet(_line: str) -> None:
    """Nobody listens to the progress here."""


@pytest.fixture
async def database(cluster: EmbeddedPostgres) -> AsyncIterator[str]:
    """The owner's address of a new, empty database."""
    async for url in new_database(cluster):
        yield url


@pytest.fixture
async def target(cluster: EmbeddedPostgres) -> AsyncIterator[str]:
    """Another one, to restore into."""
    async for url in new_database(cluster):
        yield url


async def new_database(cluster: EmbeddedPostgres) -> AsyncIterator[str]:
    name = f"backup_{uuid4().hex}"
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    await superuser.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER innkeeper_owner")
    inside = await asyncpg.connect(cluster.url(name, "postgres"))
    await inside.execute("CREATE EXTENSION vector")
    await inside.close()
    try:
        yield cluster.url(name, "innkeeper_owner")
    finally:
        await superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await superuser.close()


async def rows(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def fill(url: str, schema: str = SCHEMA) -> None:
    """Two tenants' rows, some with bytes and text that a careless copy would break."""
    connection = await asyncpg.connect(url)
    await connection.execute(schema)
    for table in ("parents", "children"):
        await connection.execute(PROTECTION.format(table))
    await connection.execute("INSERT INTO alembic_version VALUES ('0007')")
    for _ in range(2):
        project = uuid4()
        parents = [(project, uuid4(), f"nöte\t\\. {n}\r\n innkeeper_app", os.urandom(50)) for n in range(200)]
        await connection.executemany("INSERT INTO parents VALUES ($1, $2, $3, $4)", parents)
        children = [(project, uuid4(), parent[1]) for parent in parents]
        await connection.executemany("INSERT INTO children VALUES ($1, $2, $3)", children)
    await connection.close()


async def everything(url: str) -> list[list[tuple[Any, ...]]]:
    queries = ("SELECT * FROM parents ORDER BY id", "SELECT * FROM children ORDER BY id", POLICIES, GRANTS, CONSTRAINTS)
    return [await rows(url, query) for query in queries]


def make_files(folder: Path) -> tuple[dict[str, Path], Path]:
    secret = folder / "root.secret"
    secret.write_bytes(os.urandom(32))
    files = folder / "files"
    (files / "a" / ("deep" * 40)).mkdir(parents=True)
    (files / "a" / ("deep" * 40) / "päge.txt").write_text("one")
    (files / "large").write_bytes(os.urandom(3 << 20))
    (files / "link").symlink_to(secret)
    return {"root": secret}, files


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.promise("HOME-07")
async def test_restore_brings_back_every_tenants_rows_with_policies_grants_secrets_and_files(
    database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    secrets, files = make_files(tmp_path)
    archive = tmp_path / "backup.tar"
    lines: list[str] = []
    manifest = await backup(database, archive, secret_files=secrets, files_dir=files, progress=lines.append)
    assert manifest.alembic_revision == "0007"
    assert manifest.roles == ["innkeeper_app", "innkeeper_ops", "innkeeper_owner"]
    assert archive.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == ["backup.tar", "files", "root.secret"]

    home = tmp_path / "new" / "home"
    restored = await restore(
        archive,
        target,
        secret_targets={"root": home / "root.secret"},
        files_dir=home / "files",
        progress=lines.append,
    )
    assert restored == manifest == verify(archive)
    before, after = await everything(database), await everything(target)
    assert [len(part) for part in before[:2]] == [400, 400]
    assert before == after
    assert (home / "root.secret").read_bytes() == secrets["root"].read_bytes()
    assert (home / "root.secret").stat().st_mode & 0o777 == 0o600
    found = {
        path.relative_to(home / "files"): path.read_bytes() for path in (home / "files").rglob("*") if path.is_file()
    }
    wanted = {p.relative_to(files): p.read_bytes() for p in files.rglob("*") if p.is_file() and not p.is_symlink()}
    assert found == wanted
    assert len(found) == 2
    assert lines[-1].endswith("1 secrets and 2 files")
    app = target.replace("innkeeper_owner", "innkeeper_app")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await rows(app, "SELECT 1")  # another role's password: the roles of the cluster are not touched by a restore


@pytest.mark.promise("HOME-07")
async def test_a_table_whose_rows_the_owner_may_not_see_stops_the_backup(database: str, tmp_path: Path) -> None:
    await fill(database)
    await rows(database, "DROP POLICY owner_all ON children")
    with pytest.raises(AppError, match="children") as refused:
        await backup(database, tmp_path / "b.tar", secret_files={}, files_dir=None, progress=quiet)
    assert refused.value.code == "backup_incomplete"
    assert names_in(tmp_path) == []


@pytest.mark.promise("HOME-07")
async def test_restore_refuses_a_database_with_rows_and_force_replaces_it_whole(
    database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    await fill(target)
    await rows(target, "CREATE TABLE stranger AS SELECT 1")
    other = await everything(target)
    with pytest.raises(AppError, match="already holds rows") as refused:
        await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet)
    assert refused.value.code == "database_not_empty"
    assert await everything(target) == other
    await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet, force=True)
    assert await everything(target) == await everything(database)
    assert await rows(target, "SELECT extname FROM pg_extension WHERE extname = 'vector'")


@pytest.mark.promise("HOME-07")
async def test_restore_into_a_migrated_database_without_rows_needs_no_force(
    database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    await rows(target, "CREATE TABLE parents ()")
    await rows(target, "CREATE TABLE alembic_version AS SELECT '0001'::text AS version_num")
    await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet)
    assert await everything(target) == await everything(database)


@pytest.mark.promise("HOME-07")
async def test_restore_to_other_role_names_carries_policies_and_grants_over(
    cluster: EmbeddedPostgres, database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    superuser = await asyncpg.connect(cluster.url("postgres", "postgres"))
    mine, theirs = f"boss-{uuid4().hex[:8]}", f"app_{uuid4().hex[:8]}"
    name = target.rpartition("@/")[2].partition("?")[0]
    password = target.split(":")[2].partition("@")[0]
    try:
        await superuser.execute(f"CREATE ROLE \"{mine}\" LOGIN PASSWORD '{password}'; CREATE ROLE {theirs}")
        await superuser.execute(f'ALTER DATABASE {name} OWNER TO "{mine}"')
        url = target.replace("innkeeper_owner", mine)
        roles = {"innkeeper_app": theirs}
        await restore(archive, url, secret_targets={}, files_dir=None, progress=quiet, roles=roles)
        found = {row[2] for row in await rows(url, POLICIES)}
        assert found == {f"{{{theirs}}}", f"{{{mine}}}"}
        assert await rows(url, "SELECT count(*) FROM parents") == [(400,)]
        text = "SELECT count(*) FROM parents WHERE note LIKE '%innkeeper_app'"
        assert await rows(url, text) == [(400,)], "rows that merely mention a role are not rewritten"
    finally:
        inside = await asyncpg.connect(cluster.url(name, "postgres"))
        await inside.execute(f'DROP OWNED BY "{mine}", {theirs} CASCADE')
        await inside.close()
        await superuser.execute(f'ALTER DATABASE {name} OWNER TO innkeeper_owner; DROP ROLE "{mine}", {theirs}')
        await superuser.close()


@pytest.mark.promise("HOME-07")
async def test_a_restore_that_fails_on_the_way_leaves_the_database_as_it_was(
    cluster: EmbeddedPostgres, database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    await rows(target, "CREATE TABLE mine AS SELECT 5 AS answer")
    name = target.rpartition("@/")[2].partition("?")[0]
    # Another role's table keeps the name that the archive's own wants, in the middle of the restore.
    await rows(cluster.url(name, "postgres"), "CREATE TABLE public.parents ()")
    with pytest.raises(AppError, match='relation "parents" already exists') as refused:
        await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet, force=True)
    assert refused.value.code == "database_program_failed"
    assert await rows(target, "SELECT answer FROM mine") == [(5,)]


@pytest.mark.promise("HOME-07")
@pytest.mark.parametrize("fault", ["flipped", "cut", "extra", "escaping", "nothing"])
async def test_a_damaged_archive_is_refused_before_anything_changes(
    database: str, target: str, tmp_path: Path, fault: str
) -> None:
    await fill(database)
    secrets, files = make_files(tmp_path)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files=secrets, files_dir=files, progress=quiet)
    spoil(archive, fault)
    with pytest.raises(AppError) as refused:
        await restore(
            archive, target, secret_targets={"root": tmp_path / "new"}, files_dir=tmp_path / "f", progress=quiet
        )
    assert refused.value.code in ("backup_damaged", "backup_unreadable")
    assert await rows(target, GRANTS) == []
    assert not (tmp_path / "new").exists()


def spoil(archive: Path, fault: str) -> None:
    content = bytearray(archive.read_bytes())
    if fault == "flipped":
        content[len(content) // 2] ^= 1
        archive.write_bytes(content)
    elif fault == "cut":
        archive.write_bytes(content[: len(content) // 2])
    elif fault == "nothing":
        archive.unlink()
    else:
        with tarfile.open(archive, "r:") as tar:
            entries = [(entry, (file.read() if (file := tar.extractfile(entry)) else b"")) for entry in tar]
        name = "files/../../escaped" if fault == "escaping" else "files/extra"
        with tarfile.open(archive, "w") as tar:
            for entry, _body in entries[:1]:
                tar.addfile(tarfile.TarInfo(name))
                assert entry.name == "database.dump"


@pytest.mark.promise("HOME-07")
async def test_an_existing_archive_or_a_missing_secret_is_named(database: str, tmp_path: Path) -> None:
    archive = tmp_path / "b.tar"
    archive.touch()
    with pytest.raises(AppError, match="already is a file"):
        await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    gone = {"root": tmp_path / "gone"}
    with pytest.raises(AppError, match="gone cannot be read"):
        await backup(database, tmp_path / "c.tar", secret_files=gone, files_dir=None, progress=quiet)
    assert names_in(tmp_path) == ["b.tar"]


@pytest.mark.promise("HOME-07")
async def test_an_archive_of_a_newer_server_or_of_unknown_roles_is_refused(
    database: str, target: str, tmp_path: Path
) -> None:
    await fill(database)
    archive = tmp_path / "b.tar"
    await backup(database, archive, secret_files={}, files_dir=None, progress=quiet)
    rewrite_manifest(archive, postgresql=99)
    with pytest.raises(AppError, match="PostgreSQL 99"):
        await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet)
    rewrite_manifest(archive, postgresql=18)
    with pytest.raises(AppError, match="no_such_role"):
        await restore(
            archive,
            target,
            secret_targets={},
            files_dir=None,
            progress=quiet,
            roles={"innkeeper_app": "no_such_role"},
        )


def rewrite_manifest(archive: Path, **changes: object) -> None:
    with tarfile.open(archive, "r:") as tar:
        entries = [(entry, file.read()) for entry in tar if (file := tar.extractfile(entry)) is not None]
    scratch = archive.with_suffix(".new")
    with tarfile.open(scratch, "w") as tar:
        for entry, body in entries:
            content = json.dumps(json.loads(body) | changes).encode() if entry.name == "manifest.json" else body
            entry.size = len(content)
            with archive.with_suffix(".part").open("w+b") as part:
                part.write(content)
                part.seek(0)
                tar.addfile(entry, part)
    scratch.rename(archive)


@pytest.mark.promise("HOME-07")
async def test_the_migrated_schema_survives_backup_and_restore(urls: DatabaseUrls, target: str, tmp_path: Path) -> None:
    archive = tmp_path / "b.tar"
    await rows(urls.owner, "INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@b.c', 'A')")
    manifest = await backup(urls.owner, archive, secret_files={}, files_dir=None, progress=quiet)
    assert manifest.alembic_revision
    await restore(archive, target, secret_targets={}, files_dir=None, progress=quiet)
    functions = """SELECT proname, pg_get_functiondef(oid), proacl::text, proowner::regrole::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f' AND proowner <> 10
        ORDER BY 1, 2"""
    triggers = "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    for query in (POLICIES, GRANTS, CONSTRAINTS, functions, triggers, indexes, "SELECT * FROM users"):
        assert await rows(target, query) == await rows(urls.owner, query)
    # And the migrations take it from there.
    assert await runner.upgrade(target) == manifest.alembic_revision


def test_an_address_loses_its_password_and_what_only_drivers_know() -> None:
    url = "postgresql+asyncpg://me:p%40ss@db.example:6432/inn?ssl=require&statement_cache_size=0"
    assert for_libpq(url) == ("postgresql://me@db.example:6432/inn?sslmode=require", "p@ss")
    socket = "postgresql://me:pw@/inn?host=%2Frun%2Fpg"
    assert for_libpq(socket) == ("postgresql://me@/inn?host=%2Frun%2Fpg", "pw")


def test_a_server_that_speaks_tls_gets_programs_that_do() -> None:
    wheel = wheel_folder()
    assert wheel is not None
    assert next(installations(tls=False)).bin == wheel
    assert wheel not in [found.bin for found in installations(tls=True)]
