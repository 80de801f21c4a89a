"""The way back: everything is checked before anything is changed, and the database changes in one transaction."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import asyncpg

from db.backup import catalog
from db.backup.archive import extract, verify, write
from db.backup.dump import DATABASE, FILES, SECRETS, connect
from db.backup.manifest import Manifest
from db.backup.programs import Programs, failed, programs_for
from db.embedded.blocking import to_end
from db.errors import conflict

FORCE_HINT = "Restore into a new data directory or an empty database, or say --force to replace what is there."


async def restore(
    archive: Path,
    owner_url: str,
    *,
    secret_targets: Mapping[str, Path],
    files_dir: Path | None,
    progress: Callable[[str], None],
    force: bool = False,
    roles: Mapping[str, str] | None = None,
) -> Manifest:
    """Put the archive's database, secrets and files in place; then the migrations of this Innkeeper can run.

    Refuses a database with rows or a folder with files, unless ``force``, which replaces all of the owner's objects.
    Secrets are always replaced: without rows and files they seal nothing. ``secret_targets``: the name each secret had
    for `backup`, to the path it gets. ``roles``: the names that this database has for the roles of the archive's,
    where they differ; they must exist. The owner's is known.
    """
    progress("verifying the archive")
    manifest = await to_end(lambda: verify(archive))
    check_targets(manifest, secret_targets, files_dir, force)
    connection = await connect(owner_url)
    try:
        programs = await programs_for(owner_url, connection)
        names = {manifest.owner: await connection.fetchval("SELECT current_user"), **(roles or {})}
        await check_database(connection, manifest, force, names)
        present = await catalog.extensions(connection)
    finally:
        await connection.close()
    progress("restoring the database")
    await to_end(lambda: restore_database(archive, programs, present, names))
    await to_end(lambda: restore_secrets(archive, secret_targets))
    count = 0
    if files_dir is not None:
        count = await to_end(lambda: extract(archive, FILES, files_dir))
    progress(f"restored the database of {manifest.created_at}, {len(secret_targets)} secrets and {count} files")
    return manifest


def check_targets(manifest: Manifest, secrets: Mapping[str, Path], files_dir: Path | None, force: bool) -> None:
    """Raises ``AppError`` (409) where secrets or files of the archive and of this installation do not go together, or
    files would be lost without ``force``."""
    kept = {name.removeprefix(SECRETS) for name in manifest.members if name.startswith(SECRETS)}
    if kept != set(secrets):
        missing = ", ".join(sorted(kept ^ set(secrets)))
        raise conflict(
            "backup_secrets_differ",
            f"The archive and this installation differ in these secrets: {missing}.",
            "Restore with the same settings for the root secret as the backup was made with.",
        )
    if DATABASE not in manifest.members:
        raise conflict(
            "backup_without_database", "The archive holds no database.", "Name an archive that 'innkeeper backup' made."
        )
    has_files = any(name.startswith(FILES) for name in manifest.members)
    if has_files and files_dir is None:
        raise conflict(
            "files_without_folder",
            "The archive holds files, and there is no folder named for them.",
            "Name the folder that files are kept in.",
        )
    if force:
        return
    if files_dir is not None and files_dir.is_dir() and any(path.is_file() for path in files_dir.rglob("*")):
        raise conflict("files_exist", f"The folder {files_dir} is not empty.", FORCE_HINT)


async def check_database(
    connection: asyncpg.Connection, manifest: Manifest, force: bool, roles: Mapping[str, str]
) -> None:
    """Raises ``AppError`` (409) for a server that is too old, roles that it lacks, and rows that would be lost without
    ``force``. ``roles``: those that stand for the archive's, by its names."""
    server = connection.get_server_version().major
    if server < manifest.postgresql:
        raise conflict(
            "database_too_old",
            f"The archive comes from PostgreSQL {manifest.postgresql}, and this server is PostgreSQL {server}.",
            f"Restore into PostgreSQL {manifest.postgresql} or newer.",
        )
    wanted = [roles.get(name, name) for name in manifest.roles]
    missing = await catalog.missing_roles(connection, wanted)
    if missing:
        raise conflict(
            "roles_missing",
            f"The archive gives rights to roles that this server does not have: {', '.join(missing)}.",
            "Make them (CREATE ROLE name LOGIN NOINHERIT PASSWORD ...), or say which roles stand for them here.",
        )
    found = None if force else await catalog.first_table_with_rows(connection)
    if found:
        raise conflict("database_not_empty", f"The database already holds rows, for instance in {found}.", FORCE_HINT)


def restore_secrets(archive: Path, targets: Mapping[str, Path]) -> None:
    """Write each secret of the archive to where ``targets`` says, by its name."""
    with tarfile.open(archive, "r:") as tar:
        for name, path in targets.items():
            source = tar.extractfile(SECRETS + name)
            if source is not None:
                write(source, path)


def restore_database(archive: Path, programs: Programs, present: set[str], roles: Mapping[str, str]) -> None:
    """Replace the owner's objects by those of the dump, in one transaction: on any failure nothing changed.

    The dump becomes SQL in three parts. In the definitions, which are small, roles are renamed; the rows between them
    stream through.
    """
    with ExitStack() as stack:
        dump = stack.enter_context(tempfile.NamedTemporaryFile(prefix="innkeeper-"))
        words = stack.enter_context(tempfile.TemporaryFile())
        with tarfile.open(archive, "r:") as tar:
            source = tar.extractfile(DATABASE)
            while source is not None and (chunk := source.read(1 << 20)):
                dump.write(chunk)
            dump.flush()
        contents = stack.enter_context(tempfile.NamedTemporaryFile(prefix="innkeeper-"))
        contents.write(table_of_contents(programs, dump.name, words, present))
        contents.flush()
        parts: dict[str, IO[bytes]] = {}
        for section in ("pre-data", "post-data"):
            parts[section] = stack.enter_context(tempfile.NamedTemporaryFile(prefix="innkeeper-"))
            text = script(programs, dump.name, contents.name, section, words)
            parts[section].write(rename_roles(text, roles))
            parts[section].flush()
        rows = programs.spawn(
            "pg_restore",
            *arguments(contents.name, "data"),
            dump.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
        )
        target = programs.spawn(
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            programs.connected,
            "--command=SET lock_timeout = '10s'",
            "--command=DROP OWNED BY CURRENT_USER CASCADE",
            f"--file={parts['pre-data'].name}",
            "--file=-",
            f"--file={parts['post-data'].name}",
            stdin=rows.stdout or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        if rows.stdout is not None:
            rows.stdout.close()
        if any([target.wait(), rows.wait()]):
            raise failed("The restore, of which nothing was kept,", words)


def arguments(contents: str, section: str) -> list[str]:
    """How ``pg_restore`` is to print one section of a dump; ``contents``: the file that lists what of it."""
    return ["--file=-", "--no-owner", f"--use-list={contents}", f"--section={section}"]


def script(programs: Programs, dump: str, contents: str, section: str, words: IO[bytes]) -> bytes:
    """The SQL of one section of a dump. Raises ``AppError`` with what ``pg_restore`` said into ``words``."""
    with tempfile.TemporaryFile() as out:
        program = programs.spawn(
            "pg_restore", *arguments(contents, section), dump, stdin=subprocess.DEVNULL, stdout=out, stderr=words
        )
        if program.wait():
            raise failed("Reading the dump", words)
        out.seek(0)
        return out.read()


def table_of_contents(programs: Programs, dump: str, words: IO[bytes], present: set[str]) -> bytes:
    """The dump's entries without those for extensions that are there: only their owner, a superuser, may touch them."""
    with tempfile.TemporaryFile() as out:
        program = programs.spawn("pg_restore", "--list", dump, stdin=subprocess.DEVNULL, stdout=out, stderr=words)
        if program.wait():
            raise failed("Reading the dump", words)
        out.seek(0)
        lines = out.read().splitlines(keepends=True)
    skipped = [rb"^\d+; \d+ \d+ COMMENT - EXTENSION "]
    skipped += [rb"^\d+; \d+ \d+ EXTENSION - " + re.escape(name.encode()) + rb"\s*$" for name in present]
    pattern = re.compile(b"|".join(skipped))
    return b"".join(line for line in lines if not pattern.match(line))


def rename_roles(sql: bytes, roles: Mapping[str, str]) -> bytes:
    """The same definitions with other roles, wherever their names stand as words."""
    for old, new in roles.items():
        name = re.escape(old.encode())
        quoted = b'"' + new.replace('"', '""').encode() + b'"'
        literal = quoted.replace(b"\\", b"\\\\")  # to re.sub, a backslash begins a reference
        sql = re.sub(rb'"' + name + rb'"|(?<![\w"$])' + name + rb'(?![\w"$])', literal, sql)
    return sql
