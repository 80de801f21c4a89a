"""The data directory of ``innkeeper up``: secrets and files, ours alone, used by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.keyring import RootFiles, write_once
from server.refusal import Refusal


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """One database as each role. ``owner`` is known to ``up`` and to operators' commands only."""

    app: str = field(repr=False)
    ops: str | None = field(repr=False)
    owner: str | None = field(default=None, repr=False)
    direct: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """``api_key`` and ``root_secret`` hold one line each, ``database_roles`` JSON; all are mode 0600."""

    root: Path

    @property
    def api_key(self) -> Path:
        return self.root / "api_key"

    @property
    def root_secret(self) -> Path:
        return self.root / "root_secret"

    @property
    def previous_root_secret(self) -> Path:
        """The root secret before the last ``keys rotate``; one a line, should there be more."""
        return self.root / "previous_root_secret"

    @property
    def roots(self) -> RootFiles:
        return RootFiles(self.root_secret, self.previous_root_secret)

    @property
    def database_roles(self) -> Path:
        return self.root / "database_roles.json"

    @property
    def files(self) -> Path:
        """What tenants store, while no object store is configured."""
        return self.root / "files"

    @property
    def running(self) -> Path:
        """Where the running ``up`` says how it and its database are reached; stale unless the lock is held."""
        return self.root / "running.json"

    @property
    def cluster(self) -> Path:
        """What the embedded PostgreSQL leaves in a directory it has been started in."""
        return self.root / "postgres.json"

    def say_running(self, urls: DatabaseUrls, address: str) -> None:
        self.running.unlink(missing_ok=True)
        write_once(self.running, json.dumps({"address": address, "database": asdict(urls)}))

    def running_urls(self) -> DatabaseUrls | None:
        """The database that a running ``up`` uses, ``None`` when none is ready."""
        try:
            return DatabaseUrls(**self._running()["database"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def running_address(self) -> str | None:
        """Where people reach the running ``up``; ``None`` when none is ready."""
        try:
            return str(self._running()["address"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _running(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.running.read_text())
        return found

    def make(self) -> None:
        """Create it, mode 0700, and prove that it can be written. Raises :class:`Refusal`."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.root / f".probe.{os.getpid()}"
            write_once(probe, "")
            probe.unlink()
        except OSError as error:
            raise Refusal(
                f"The data directory {self.root} cannot be written ({error.strerror}): make it writable, or choose "
                "another with --data."
            ) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Mark it as used by this process, until the process ends however it ends. Raises :class:`Refusal`."""
        with self.try_lock() as free:
            if not free:
                raise Refusal(
                    f"The data directory {self.root} is in use by another Innkeeper (process {self._locked_by()}): "
                    "stop that one, or choose another directory with --data."
                )
            yield

    @contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Like :meth:`lock`, but says whether it was free instead of refusing."""
        with _locked(self._lock_file) as free:
            yield free

    @contextmanager
    def lock_roots(self) -> Iterator[None]:
        """Nobody else replaces or copies the root secrets meanwhile. Raises :class:`Refusal`."""
        with _locked(self.root / "roots.lock") as free:
            if not free:
                raise Refusal("A rotation or a backup is under way: try again when it has ended.")
            yield

    @property
    def _lock_file(self) -> Path:
        return self.root / "up.lock"

    def _locked_by(self) -> str:
        return self._lock_file.read_text().strip() or "unknown"


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock on ``path`` with this process's id in it; False when another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(descriptor)


def data_directory(chosen: Path | None, environ: Mapping[str, str]) -> DataDirectory:
    """``chosen``, else ``$XDG_DATA_HOME/innkeeper``, else ``~/.local/share/innkeeper``; always absolute."""
    if chosen is None:
        base = environ.get("XDG_DATA_HOME", "")
        chosen = (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "innkeeper"
    return DataDirectory(chosen.expanduser().absolute())
