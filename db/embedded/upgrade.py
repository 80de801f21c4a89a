"""The upgrade of a cluster that an older major version made: dumped by the new programs, restored into a new cluster.

Both servers run side by side, as the account; the folders are exchanged only when all of it succeeded, and the old one
is kept. Until then an interruption leaves the old cluster as it was.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from db.embedded.binaries import Binaries, find_major
from db.embedded.blocking import to_end
from db.embedded.errors import EmbeddedError
from db.embedded.folder import exchange, init_cluster, remove
from db.embedded.place import socket_folder
from db.embedded.server import Site, start_server
from db.embedded.state import SUPERUSER, State

UPGRADED = "postgres.upgraded"


async def upgrade(
    data_dir: Path,
    state: State,
    site: Site,
    binaries: Binaries,
    old_major: int,
    old_bin_dirs: Sequence[Path],
    fast_unsafe: bool,
    progress: Callable[[str], None],
) -> None:
    """Replace the cluster at ``site`` by one of ``binaries`` with the same roles, databases and rows."""
    old = await to_end(lambda: find_major(old_major, old_bin_dirs))
    if old is None:
        raise EmbeddedError(
            "old_binaries_missing",
            f"The database in {site.data} was made by PostgreSQL {old_major}, which is needed once to read it, "
            "and is not installed.",
            f"Install PostgreSQL {old_major} from the system's packages (postgresql-{old_major}), or name the folder "
            "of its programs in the setting old_bin_dirs, and start again.",
        )
    progress(f"upgrading the database from PostgreSQL {old_major} to {binaries.major}")
    data = site.data.with_name(UPGRADED)
    new_site = replace(site, data=data, sockets=socket_folder(data, site.account))
    password = state.passwords[SUPERUSER]
    await to_end(lambda: remove(data))
    await to_end(lambda: init_cluster(binaries, new_site, password, fast_unsafe))
    old_server, connection = await start_server(old, site, state, fast_unsafe, progress)
    try:
        names = [row["datname"] for row in await connection.fetch(DATABASES)]
        await connection.close()
        new_server, connection = await start_server(binaries, new_site, state, fast_unsafe, progress)
        try:
            await connection.close()
            transfer = Transfer(binaries, site, new_site, password)
            await to_end(transfer.roles)
            for name in names:
                progress(f"moving the database {name}")
                await to_end(partial(transfer.database, name))
            await to_end(transfer.statistics)
        finally:
            await to_end(new_server.stop)
    finally:
        await to_end(old_server.stop)
    state.prepared = 0  # the new cluster gets whatever a fresh one gets
    kept = await to_end(lambda: exchange(state, data_dir, site.data, data, old_major))
    progress(f"the old database is kept as {kept}")


DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"


class Transfer:
    """The programs that carry one cluster into the other, each run as the account and checked for its end."""

    def __init__(self, binaries: Binaries, source: Site, target: Site, password: str) -> None:
        self._binaries = binaries
        self._source = source
        self._target = target
        self._spawning = source.spawning
        self._spawning["env"] = source.spawning["env"] | {"PGUSER": SUPERUSER, "PGPASSWORD": password}

    def roles(self) -> None:
        """Make the old cluster's roles, with their passwords, in the new one."""
        answer = self._run(["pg_dumpall", "--globals-only", *self._at(self._source, "postgres")], None)
        # The new cluster already has its superuser, and any other error shall count.
        lines = [line for line in answer.splitlines() if line != f"CREATE ROLE {SUPERUSER};"]
        self._run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *self._at(self._target, "postgres")], "\n".join(lines))

    def database(self, name: str) -> None:
        """Move one database with all it holds, without a file in between.

        Raises ``EmbeddedError`` with what the programs said."""
        create = [] if name == "postgres" else ["--create"]
        dump = ["pg_dump", "--format=custom", "--compress=none", *self._at(self._source, name)]
        restore = ["pg_restore", "--exit-on-error", *create, *self._at(self._target, "postgres")]
        with tempfile.TemporaryFile() as words:
            source = self._spawn(dump, subprocess.DEVNULL, subprocess.PIPE, words)
            target = self._spawn(restore, source.stdout, subprocess.DEVNULL, words)
            if source.stdout is not None:
                source.stdout.close()
            failed = [bool(process.wait()) for process in (target, source)]
            if any(failed):
                words.seek(0)
                raise self._failure(f"The database {name} cannot be moved", words.read().decode(errors="replace"))

    def statistics(self) -> None:
        """Without which the planner of the new cluster knows nothing of its tables."""
        self._run(["vacuumdb", "--all", "--analyze-only", "--quiet", *self._at(self._target, None)], None)

    @staticmethod
    def _at(site: Site, database: str | None) -> list[str]:
        name = [] if database is None else [f"--dbname=dbname='{database}'"]
        return [f"--host={site.sockets}", *name]

    def _run(self, command: list[str], text: str | None) -> str:
        program = [self._binaries.program(command[0]), *command[1:]]
        answer: subprocess.CompletedProcess[str] = subprocess.run(
            program, input=text, capture_output=True, text=True, check=False, **self._spawning
        )
        if answer.returncode:
            raise self._failure(f"{command[0]} failed", answer.stderr)
        return answer.stdout

    def _spawn(
        self, command: list[str], stdin: int | IO[bytes] | None, stdout: int, stderr: IO[Any]
    ) -> subprocess.Popen[bytes]:
        program = [self._binaries.program(command[0]), *command[1:]]
        return subprocess.Popen(program, stdin=stdin, stdout=stdout, stderr=stderr, **self._spawning)

    def _failure(self, what: str, words: str) -> EmbeddedError:
        said = "".join(f"\n  {line}" for line in words.strip().splitlines()[-5:])
        return EmbeddedError(
            "upgrade_failed",
            f"{what}; the old database is untouched. PostgreSQL said:{said}",
            "Mend what these lines name and start again, or start the Innkeeper that made this data directory.",
        )
