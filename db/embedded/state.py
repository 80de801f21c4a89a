"""What Innkeeper remembers of its cluster (``postgres.json``, 0600, ours), and the lock on the data directory."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from db.embedded.errors import DataDirectoryInUse, EmbeddedError, unwritable

OWNER, APP, OPS, SUPERUSER = "innkeeper_owner", "innkeeper_app", "innkeeper_ops", "postgres"
ROLES = (SUPERUSER, OWNER, APP, OPS)
# The stop that a dead owner's watchdog carries out takes less: SIGINT, SIGQUIT after 0.6 s, SIGKILL after 3 s more.
HANDOVER_SECONDS = 8.0


@dataclass(slots=True)
class State:
    """``prepared``: the number of the last preparation that was carried out in the cluster, 0 for none.

    ``place``: the folder that holds PostgreSQL's. ``swap``: the name that the old folder gets, while an upgrade
    exchanges the two. ``sockets``: the folder of the socket, as of the last start.
    """

    place: str
    prepared: int = 0
    swap: str | None = None
    sockets: str | None = None
    passwords: dict[str, str] = field(
        default_factory=lambda: {role: secrets.token_urlsafe(32) for role in ROLES}, repr=False
    )

    @staticmethod
    def file(data_dir: Path) -> Path:
        return data_dir / "postgres.json"

    @classmethod
    def load(cls, data_dir: Path) -> State | None:
        """``None`` where no cluster was made. Raises ``EmbeddedError`` for a file that is damaged or unreadable."""
        path = cls.file(data_dir)
        try:
            found = json.loads(path.read_text())
            state = cls(**found)
            if set(ROLES) - state.passwords.keys():
                raise KeyError("passwords")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unwritable(path, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EmbeddedError(
                "state_damaged",
                f"The file {path} holds the database's passwords and is damaged.",
                "Put it back from a copy; without it the database cannot be opened.",
            ) from error
        return state

    def save(self, data_dir: Path) -> None:
        write_private(self.file(data_dir), json.dumps(asdict(self), indent=1).encode())


def write_private(path: Path, content: bytes) -> None:
    """Replace a file by one that only we can read, all or nothing, also when the machine stops."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        scratch.unlink()
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    scratch.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(data_dir: Path) -> int:
    """The descriptor whose flock marks us as the owner. Blocks while a dead owner's PostgreSQL is still stopping."""
    try:
        descriptor = os.open(_lock_file(data_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(data_dir, error) from error
    try:
        _wait_for_lock(descriptor, data_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        raise unwritable(data_dir, error) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_lock(descriptor: int, data_dir: Path) -> None:
    """Raises ``EmbeddedError`` when the directory that we marked is not the one of this name any more."""
    try:
        if os.path.samestat(os.fstat(descriptor), _lock_file(data_dir).stat()):
            return
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise unwritable(data_dir, error) from error
    raise EmbeddedError(
        "data_directory_replaced",
        f"The data directory {data_dir} was removed or replaced while it was in use.",
        "Put it back, or start Innkeeper anew with what is there now.",
    )


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "postgres.lock"


def _wait_for_lock(descriptor: int, data_dir: Path) -> None:
    deadline = time.monotonic() + HANDOVER_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(descriptor, 20, 0).strip()
            pid = int(written) if written.isdigit() else None
            if (pid is not None and _lives(pid)) or time.monotonic() > deadline:
                raise DataDirectoryInUse(data_dir, pid) from None
            # Either the owner has just begun and not said its pid, or it died and its watchdog, which holds the
            # lock too, is stopping PostgreSQL.
            time.sleep(0.02)
        else:
            return


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
