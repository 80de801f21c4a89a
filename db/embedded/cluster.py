"""The embedded PostgreSQL of one data directory: made, upgraded, started, stopped."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg

from db.embedded.account import account_for_postgres, is_ours_alone
from db.embedded.addresses import Addresses
from db.embedded.binaries import Binaries, find_binaries, reachable
from db.embedded.blocking import to_end
from db.embedded.errors import DataDirectoryInUse, EmbeddedError, unwritable
from db.embedded.folder import NAME, check_owner, finish_exchange, init_cluster, is_there, major_of
from db.embedded.place import ELSEWHERE, choose_place, socket_folder
from db.embedded.roles import PREPARATION, prepare_cluster, prepare_database
from db.embedded.server import Server, Site, start_server
from db.embedded.state import SUPERUSER, State, check_lock, take_lock
from db.embedded.upgrade import UPGRADED, upgrade

Progress = Callable[[str], None]
# How often it is asked whether somebody wants it to stop, and so how long a smart shutdown has.
STOPPING_SECONDS = 5.0


class EmbeddedPostgres:
    """A running cluster. It stops with `stop`, or at once when this process dies in any way.

    ``addresses`` says how to connect, and so do the properties of the same names.
    """

    def __init__(self, launch: _Launch, server: Server) -> None:
        self._launch = launch
        self._server = server
        self._stopped = False
        self.addresses = addresses = Addresses(launch.site.sockets, launch.state)
        self.server_version = launch.binaries.version
        self.url = addresses.url
        self.owner_url = addresses.owner_url
        self.app_url = addresses.app_url
        self.ops_url = addresses.ops_url
        self.superuser_url = addresses.superuser_url

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder: below the data directory, or elsewhere when root placed it there."""
        return self._server.site.data

    @property
    def pid(self) -> int:
        """The first process of PostgreSQL, another one after `start_again`."""
        return self._server.pid

    @property
    def running(self) -> bool:
        return not self._stopped and self._server.running

    async def stop(self) -> None:
        """Stop PostgreSQL in order, within 30 s, and give the data directory free. A second call does nothing."""
        if not self._stopped:
            self._stopped = True
            await to_end(lambda: _release(self._server))

    async def ended(self) -> str:
        """Wait until PostgreSQL has gone away without `stop`, and say how. A smart shutdown is made a fast one."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOPPING_SECONDS):
                    return await self._server.ended()
            if self._server.is_stopping():
                await to_end(lambda: self._server.hurry(self._launch.binaries))

    async def start_again(self, progress: Progress) -> None:
        """After `ended`: start PostgreSQL at the same addresses, where nobody else can have begun meanwhile. Raises
        EmbeddedError; nothing is left running then."""
        self._launch.progress = progress
        await to_end(self._server.stop)
        check_lock(self._launch.site.lock, self._launch.data_dir)
        with _writing_in(self._launch.data_dir):
            self._server = await self._launch.run()

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        progress: Progress,
        fast_unsafe: bool = False,
        old_bin_dirs: Sequence[Path] = (),
        elsewhere: Path = ELSEWHERE,
        binaries: Binaries | None = None,
    ) -> EmbeddedPostgres:
        """Start the cluster of ``data_dir``; make it first when there is none; upgrade it when it is older.

        ``fast_unsafe`` gives up durability (for tests). ``old_bin_dirs``: where to look for the programs of an older
        PostgreSQL. ``elsewhere``: root's place for a cluster below a private home. ``binaries``: other than the
        wheel's. Raises DataDirectoryInUse or another EmbeddedError.
        """
        lock = await to_end(lambda: _claim(data_dir.absolute()), undo=os.close)
        try:
            with _writing_in(data_dir):
                launch = await to_end(lambda: _Launch.plan(data_dir.absolute(), lock, binaries, elsewhere, progress))
                launch.fast_unsafe = fast_unsafe
                launch.old_bin_dirs = old_bin_dirs
                return cls(launch, await launch.run())
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    async def attach(cls, data_dir: Path) -> Addresses:
        """The addresses of the cluster that another process runs there. Raises EmbeddedError when none answers."""
        state = await to_end(lambda: State.load(data_dir.absolute()))
        if state is not None and state.sockets is not None:
            addresses = Addresses(Path(state.sockets), state)
            with suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(addresses.owner_url, timeout=5)
                await connection.close()
                return addresses
        raise EmbeddedError(
            "database_not_running",
            f"No database of the data directory {data_dir} is running.",
            "Start Innkeeper there, or name the data directory that it uses.",
        )

    @classmethod
    @asynccontextmanager
    async def reach(cls, data_dir: Path, *, progress: Progress) -> AsyncIterator[Addresses]:
        """The cluster of ``data_dir`` for a short task: that of the process that runs it, else started for so long."""
        try:
            cluster = await cls.start(data_dir, progress=progress)
        except DataDirectoryInUse:
            yield await cls.attach(data_dir)
            return
        try:
            yield cluster.addresses
        finally:
            await cluster.stop()


@contextmanager
def _writing_in(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(Path(error.filename) if error.filename else data_dir, error) from error


def _claim(data_dir: Path) -> int:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(data_dir, error) from error
    return take_lock(data_dir)


def _release(server: Server) -> None:
    server.stop()
    if server.site.sockets != server.site.data:
        with suppress(OSError):
            server.site.sockets.rmdir()
    os.close(server.site.lock)


class _Launch:
    """One start, under the lock."""

    def __init__(self, data_dir: Path, site: Site, state: State, binaries: Binaries, progress: Progress) -> None:
        self.data_dir = data_dir
        self.site = site
        self.state = state
        self.binaries = binaries
        self.progress = progress
        self.fast_unsafe = False
        self.old_bin_dirs: Sequence[Path] = ()

    @classmethod
    def plan(cls, data_dir: Path, lock: int, binaries: Binaries | None, elsewhere: Path, progress: Progress) -> _Launch:
        """Decide who runs PostgreSQL, where, and with which programs."""
        account = account_for_postgres(progress)
        if account is not None and is_ours_alone(data_dir) and not account.may(1, data_dir):
            # Root's own directory: the account may pass through it to its folder, and sees nothing on the way.
            os.chown(data_dir, -1, account.gid)
            data_dir.chmod(data_dir.stat().st_mode & 0o700 | 0o010)
        state = State.load(data_dir)
        place = Path(state.place) if state else choose_place(data_dir, account, elsewhere)
        data = place / NAME
        if state is None:
            if is_there(data):
                raise EmbeddedError(
                    "passwords_missing",
                    f"There is a database in {data}, but the file {State.file(data_dir)} with its passwords is gone.",
                    "Put that file back, or move the database folder away to begin with an empty one.",
                )
            state = State(str(place))
            state.save(data_dir)
        found = binaries or find_binaries()
        if account is not None:
            found = reachable(found, account, elsewhere)
        sockets = socket_folder(data, account)
        return cls(data_dir, Site(data, sockets, data_dir / "postgres.log", account, lock), state, found, progress)

    async def run(self) -> Server:
        """The server, ready. Raises EmbeddedError or OSError."""
        await self._make_or_upgrade()
        return await self._serve()

    async def _make_or_upgrade(self) -> None:
        site, data = self.site, self.site.data
        upgraded = data.with_name(UPGRADED)
        finish_exchange(self.state, self.data_dir, data, upgraded)
        if not is_there(data):
            if self.state.prepared:
                raise EmbeddedError(
                    "database_folder_missing",
                    f"The database folder {data} is gone.",
                    f"Put it back, or remove {State.file(self.data_dir)} to begin with an empty database.",
                )
            self.progress("creating the database cluster")
            password = self.state.passwords[SUPERUSER]
            await to_end(lambda: init_cluster(self.binaries, site, password, self.fast_unsafe))
            return
        check_owner(data, site.account)
        major = major_of(data)
        if major > self.binaries.major:
            raise EmbeddedError(
                "database_too_new",
                f"The database in {data} was made by PostgreSQL {major}; this Innkeeper brings {self.binaries.major}.",
                "Install the newer Innkeeper that made it, or restore a backup into a new data directory.",
            )
        if major < self.binaries.major:
            await upgrade(
                self.data_dir,
                self.state,
                site,
                self.binaries,
                major,
                self.old_bin_dirs,
                self.fast_unsafe,
                self.progress,
            )

    async def _serve(self) -> Server:
        self.progress(f"starting PostgreSQL {self.binaries.version}")
        if self.state.sockets != str(self.site.sockets):
            self.state.sockets = str(self.site.sockets)
            await to_end(lambda: self.state.save(self.data_dir))
        server, connection = await start_server(self.binaries, self.site, self.state, self.fast_unsafe, self.progress)
        try:
            if self.state.prepared < PREPARATION:
                await prepare_cluster(connection, self.state)
                await self._prepare_database()
                self.state.prepared = PREPARATION
                self.state.save(self.data_dir)
            await connection.close()
        except BaseException:
            connection.terminate()
            await to_end(server.stop)
            raise
        return server

    async def _prepare_database(self) -> None:
        connection = await asyncpg.connect(Addresses(self.site.sockets, self.state).superuser_url)
        try:
            await prepare_database(connection)
        finally:
            await connection.close()
