"""The backup: the database, the secrets that open what is sealed in it, and the stored files, in one archive."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import asyncpg

from db.backup import catalog
from db.backup.archive import Writer, new_archive
from db.backup.manifest import Manifest
from db.backup.programs import Programs, failed, plain, programs_for
from db.embedded.blocking import to_end
from db.errors import AppError

DATABASE, SECRETS, FILES = "database.dump", "secrets/", "files/"


async def backup(
    owner_url: str,
    destination: Path,
    *,
    secret_files: Mapping[str, Path],
    files_dir: Path | None,
    progress: Callable[[str], None],
) -> Manifest:
    """Write a new archive at ``destination`` (0600: it holds the secrets), while Innkeeper may go on running.

    The database is one consistent snapshot; files are added after it, so every file that its rows name and that was
    not deleted meanwhile is there. ``secret_files``: a name, as `restore` asks for it, to the path of each secret.
    """
    connection = await connect(owner_url)
    try:
        await catalog.refuse_hidden_rows(connection)
        programs = await programs_for(owner_url, connection)
        everything = await catalog.sees_all(connection)
        manifest = Manifest(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            innkeeper=own_version(),
            postgresql=connection.get_server_version().major,
            alembic_revision=await catalog.alembic_revision(connection),
            owner=await connection.fetchval("SELECT current_user"),
            roles=await catalog.roles_named(connection),
        )
    finally:
        await connection.close()

    def work() -> Manifest:
        with new_archive(destination) as writer:
            dump_database(programs, everything, destination.parent, writer)
            for name, path in secret_files.items():
                add_secret(writer, name, path)
            if files_dir is not None:
                add_files(writer, files_dir)
            sealed = replace(manifest, members=writer.members)
            writer.seal(sealed)
            return sealed

    progress("dumping the database")
    sealed = await to_end(work)
    files = sum(name.startswith(FILES) for name in sealed.members)
    progress(f"wrote {destination}: the database, {len(secret_files)} secrets and {files} files")
    return sealed


async def connect(url: str) -> asyncpg.Connection:
    """A connection that sees rows as the programs will. Raises AppError when the server does not let us in."""
    try:
        return await asyncpg.connect(plain(url), timeout=20, server_settings={"row_security": "on"})
    except (OSError, asyncpg.PostgresError) as error:
        raise AppError(
            "unavailable",
            503,
            f"The database cannot be reached: {error}.",
            "Start it, or mend DATABASE_OWNER_URL.",
            retryable=True,
        ) from error


def own_version() -> str:
    """As installed; ``unknown`` in a checkout that is not."""
    try:
        return metadata.version("innkeeper")
    except metadata.PackageNotFoundError:
        return "unknown"


def dump_database(programs: Programs, everything: bool, folder: Path, writer: Writer) -> None:
    """Add the dump. It passes through a file beside the archive: a tar wants to know the size first."""
    # Without the option pg_dump demands a role that bypasses row-level security; that this one sees all was asked.
    security = [] if everything else ["--enable-row-security"]
    with tempfile.NamedTemporaryFile(prefix=".dump-", dir=folder) as dump, tempfile.TemporaryFile() as words:
        program = programs.spawn(
            "pg_dump",
            "--format=custom",
            *security,
            programs.connected,
            stdin=subprocess.DEVNULL,
            stdout=dump.file,
            stderr=words,
        )
        if program.wait():
            raise failed("The dump of the database", words)
        writer.add(DATABASE, Path(dump.name))


def add_secret(writer: Writer, name: str, path: Path) -> None:
    """Put a secret's file into the archive. Raises ``AppError`` ``secret_unreadable``."""
    try:
        writer.add(SECRETS + name, path)
    except OSError as error:
        raise AppError(
            "secret_unreadable",
            500,
            f"The secret file {path} cannot be read: {error.strerror}.",
            "A backup without it could not be used. Run this as the account that Innkeeper runs as.",
        ) from error


def add_files(writer: Writer, folder: Path) -> None:
    """Add every regular file below the folder, once if it has several names. Links are not followed; what vanishes
    meanwhile is left out, and so is what is hidden: that is still being written."""
    added: set[int] = set()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            try:
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and not name.startswith(".") and found.st_ino not in added:
                    writer.add(FILES + path.relative_to(folder).as_posix(), path)
                    if found.st_nlink > 1:
                        added.add(found.st_ino)
            except FileNotFoundError:
                continue
