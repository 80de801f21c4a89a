"""One running PostgreSQL: spawned below its watchdog, awaited, stopped. Everything here blocks, except `ready`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg

from db.embedded.account import Account
from db.embedded.addresses import Addresses
from db.embedded.binaries import Binaries
from db.embedded.blocking import to_end
from db.embedded.errors import EmbeddedError, server_failed
from db.embedded.leftovers import LOCK_FILE, remedied, stop_unowned
from db.embedded.state import SUPERUSER, State

WATCHDOG = Path(__file__).with_name("watchdog.py")
# Replaying the log of an unclean stop may take minutes on a slow disk; a server that dies ends the wait at once.
READY_SECONDS = 300.0
STOP_SECONDS = 30.0
LARGEST_LOG = 4 << 20
# Of postmaster.pid (PostgreSQL's pidfile.h), counted from 0.
STATUS_LINE = 7
LARGEST_LOCK_FILE = 4096
# Nothing of our environment, where keys may be, reaches PostgreSQL.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


@dataclass(frozen=True, slots=True)
class Site:
    """Where one cluster is and who runs it. ``lock`` is the descriptor that marks the data directory as ours."""

    data: Path
    sockets: Path
    log: Path
    account: Account | None
    lock: int

    @property
    def spawning(self) -> dict[str, Any]:
        """The arguments that make ``subprocess`` start a program as the account, knowing nothing of ours."""
        return {"cwd": "/", "env": ENVIRONMENT, **(self.account.spawning if self.account else {})}

    def as_account(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the account, to its end."""
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **self.spawning)


def options(site: Site, fast_unsafe: bool) -> list[str]:
    """Settings on the command line: they win over the files in a folder that belongs to the account."""
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(site.sockets),
        "unix_socket_permissions": "0700",
        "password_encryption": "scram-sha-256",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "log_checkpoints": "off",
        # Errors of statements quote what tenants wrote: they go to the caller, not to a file.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "off",
        "jit": "off",
    }
    if fast_unsafe:
        # Tests open many houses at once on one server.
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


class Server:
    """A PostgreSQL that runs until `stop`, or until this process dies."""

    def __init__(self, site: Site, watchdog: subprocess.Popen[bytes], pid: int, log_from: int) -> None:
        self.site = site
        self.pid = pid
        self._watchdog = watchdog
        self._log_from = log_from

    @classmethod
    def spawn(cls, binaries: Binaries, site: Site, fast_unsafe: bool) -> Server:
        """Start PostgreSQL; it is not ready yet. Raises EmbeddedError when it does not even run."""
        command = [binaries.program("postgres"), "-D", str(site.data), *options(site, fast_unsafe)]
        uid, gid = (site.account.uid, site.account.gid) if site.account else (-1, -1)
        with open_log(site.log) as log:
            log_from = log.tell()
            watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WATCHDOG), str(uid), str(gid), str(site.lock), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(site.lock,),
                start_new_session=True,  # Ctrl-C in a terminal is for us: we stop PostgreSQL when the streams ended
                bufsize=0,
            )
        assert watchdog.stdout is not None  # noqa: S101 -- for the type checker: it was asked for above
        word, _, number = watchdog.stdout.readline().decode().partition(" ")
        server = cls(site, watchdog, int(number) if word == "pid" else 0, log_from)
        if not server.pid:
            server.stop()
            raise server_failed("PostgreSQL cannot be run.", site.log, server.last_words())
        return server

    @property
    def running(self) -> bool:
        return self._watchdog.poll() is None

    async def ready(self, url: str, progress: Callable[[str], None]) -> asyncpg.Connection:
        """Wait until PostgreSQL answers, and hand over the connection it answered on."""
        deadline = time.monotonic() + READY_SECONDS
        said = False
        while True:
            try:
                return await asyncpg.connect(url, timeout=10)
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError) as error:
                if not self.running:
                    raise server_failed("PostgreSQL stopped.", self.site.log, self.last_words()) from error
                if time.monotonic() > deadline:
                    raise server_failed("PostgreSQL does not answer.", self.site.log, self.last_words()) from error
                if isinstance(error, asyncpg.CannotConnectNowError) and not said and self._recovers():
                    said = True
                    progress("recovering the database after an unclean stop")
            except asyncpg.InvalidAuthorizationSpecificationError as error:
                raise EmbeddedError(
                    "database_password",
                    f"The database refuses the password in the file postgres.json: {error}.",
                    "Put back the postgres.json that belongs to this database folder.",
                ) from error
            except asyncpg.PostgresError as error:
                raise server_failed(f"PostgreSQL answers: {error}.", self.site.log, self.last_words()) from error
            await asyncio.sleep(0.01)

    async def ended(self) -> str:
        """Wait until PostgreSQL has ended, or its watchdog, and say how it came to that."""
        stdout = self._watchdog.stdout
        assert stdout is not None  # noqa: S101 -- for the type checker: it was asked for in spawn
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(stdout.fileno(), told.set)
        try:
            await told.wait()
        finally:
            loop.remove_reader(stdout.fileno())
        word, _, status = stdout.readline().decode().strip().partition(" ")
        return how_it_ended(int(status)) if word == "exit" else "its watchdog was killed"

    def is_stopping(self) -> bool:
        """Whether somebody asked it to stop. A smart shutdown takes no connections and waits for all there are to end,
        which ours never do (PostgreSQL, "Shutting Down the Server")."""
        with suppress(OSError, IndexError):
            descriptor = os.open(self.site.data / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                return file.read(LARGEST_LOCK_FILE).splitlines()[STATUS_LINE].strip() == b"stopping"
        return False

    def hurry(self, binaries: Binaries) -> None:
        """Make a smart shutdown a fast one."""
        self.site.as_account(binaries.program("pg_ctl"), "stop", "-m", "fast", "-t", "20", "-D", str(self.site.data))

    def _recovers(self) -> bool:
        return any("not properly shut down" in line for line in self.last_words(50))

    def stop(self) -> None:
        """An orderly stop: open transactions are rolled back, memory goes to disk. Bounded; harder when it drags.
        A second call does nothing."""
        watchdog = self._watchdog
        assert watchdog.stdin is not None  # noqa: S101 -- for the type checker: it was asked for in spawn
        assert watchdog.stdout is not None  # noqa: S101 -- the same
        if watchdog.stdin.closed:
            return
        with suppress(OSError):
            watchdog.stdin.write(b"stop\n")
        try:
            watchdog.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its hardest step is due after 26 s, so it is stuck itself (stopped by a debugger, say).
            watchdog.kill()
            watchdog.wait()
        with suppress(OSError):
            watchdog.stdin.close()
        watchdog.stdout.close()

    def last_words(self, count: int = 5) -> list[str]:
        """The last lines that this server, not an earlier one, wrote."""
        try:
            with self.site.log.open("rb") as log:
                log.seek(self._log_from)
                return [line.decode(errors="replace").rstrip() for line in deque(log, maxlen=count)]
        except OSError:
            return []


async def start_server(
    binaries: Binaries, site: Site, state: State, fast_unsafe: bool, progress: Callable[[str], None]
) -> tuple[Server, asyncpg.Connection]:
    """A server that is ready, with a superuser's connection to it. Whatever fails, nothing is left running."""
    superuser = Addresses(site.sockets, state).url("postgres", SUPERUSER)

    async def attempt() -> tuple[Server, asyncpg.Connection]:
        server = await to_end(lambda: Server.spawn(binaries, site, fast_unsafe), undo=Server.stop)
        try:
            return server, await server.ready(superuser, progress)
        except BaseException:
            await to_end(server.stop)
            raise

    if await to_end(lambda: stop_unowned(binaries, site)):
        progress("stopped a PostgreSQL that an earlier process left running")
    try:
        return await attempt()
    except EmbeddedError as error:
        refused = error.message
        if not await to_end(lambda: remedied(refused, binaries, site)):
            raise
    return await attempt()


def how_it_ended(status: int) -> str:
    """In words, what ``os.waitstatus_to_exitcode`` says of a server that nobody of us stopped."""
    if status < 0:
        return f"killed by signal {-status}"
    return "somebody stopped it" if status == 0 else f"it failed with exit code {status}"


def open_log(path: Path) -> BinaryIO:
    """PostgreSQL's log, in our folder, opened by us; the one before is kept as ``.1`` when it is large."""
    with suppress(FileNotFoundError):
        if path.lstat().st_size > LARGEST_LOG:
            path.rename(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    log = os.fdopen(descriptor, "ab")
    log.seek(0, os.SEEK_END)
    return log
