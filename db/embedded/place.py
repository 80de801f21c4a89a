"""Where the folder of PostgreSQL and its socket are: in the data directory, unless the account cannot reach it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from db.embedded.account import Account, is_ours_alone
from db.embedded.errors import EmbeddedError

ELSEWHERE = Path("/var/lib/innkeeper")
# sockaddr_un holds 107 bytes on Linux and 103 on macOS; a slash and this name are part
# of them.
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_DIR = 103 - 1 - len(SOCKET)


def digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def choose_place(data_dir: Path, account: Account | None, elsewhere: Path) -> Path:
    """The folder, ours, that holds PostgreSQL's own one. Other than ``data_dir`` only as root, when the account

    cannot enter that (below a private home, say) or somebody else could exchange what is in it.
    """
    if account is None or (account.reaches(data_dir) and is_ours_alone(data_dir)):
        return data_dir
    place = elsewhere / digest(data_dir)
    make_public(elsewhere)
    make_public(place)
    if not account.reaches(place):
        raise EmbeddedError(
            "place_unreachable",
            f"The account '{account.name}', which runs PostgreSQL, can enter neither {data_dir} nor {place}.",
            f"Let others enter the folders above (chmod o+x), for instance those of {elsewhere}.",
        )
    return place


def make_public(folder: Path) -> None:
    """Make a folder that everybody may enter and only we may change; refuse one that is not so."""
    try:
        folder.mkdir(mode=0o755, parents=True)
        folder.chmod(0o755)  # mkdir's mode is cut by the umask
    except FileExistsError:
        pass
    except OSError as error:
        raise EmbeddedError(
            "place_unwritable",
            f"The folder {folder} cannot be made: {error.strerror}.",
            "Name a data directory that other accounts can enter, or make that folder by hand.",
        ) from error
    if not is_ours_alone(folder):
        raise EmbeddedError(
            "place_untrusted",
            f"The folder {folder} belongs to another account or can be written by one.",
            f"Make it root's alone: chown root {folder}; chmod 755 {folder}.",
        )


def make_folder(folder: Path, account: Account | None) -> None:
    """Make a new private folder and give it to the account. Fails when anything has that name."""
    folder.mkdir(mode=0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def socket_folder(data: Path, account: Account | None) -> Path:
    """A private folder, short enough, for the socket: PostgreSQL's own, else one that is always the same in /tmp."""
    if len(os.fsencode(data)) <= LONGEST_SOCKET_DIR:
        return data
    folder = _scratch(account) / f"innkeeper-{os.geteuid()}-{digest(data)}"
    try:
        make_folder(folder, account)
    except FileExistsError:
        found = folder.lstat()
        owner = os.geteuid() if account is None else account.uid
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            # Somebody took the name before us: the private one below is never theirs.
            folder = Path(tempfile.mkdtemp(prefix="innkeeper-", dir=_scratch(account)))
            if account is not None:
                os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    return folder


def _scratch(account: Account | None) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if account is None and runtime and len(os.fsencode(runtime)) < 40 and Path(runtime).is_dir():
        return Path(runtime)
    return Path("/tmp")  # noqa: S108 -- short by tradition; the folder made in it is private
