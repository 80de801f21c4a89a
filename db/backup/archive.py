"""The archive: one uncompressed tar, written and read as a stream, with constant memory and a checksum a member."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from db.backup.manifest import NAME, Manifest, Member, damaged
from db.embedded.state import sync_folder
from db.errors import AppError

READABLE = "Name an archive that exists and that this account may read."
CHUNK = 1 << 20
LARGEST_MANIFEST = 1 << 28


class Hashing(io.RawIOBase):
    """A file that is read through, counted and hashed."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self._size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(size)
        self._digest.update(content)
        self._size += len(content)
        return content

    @property
    def member(self) -> Member:
        return Member(self._size, self._digest.hexdigest())


class Writer:
    """Adds members; the manifest comes last, from `seal`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: dict[str, Member] = {}

    def add(self, name: str, path: Path) -> None:
        """Add a regular file as it is now. Raises FileNotFoundError when it is gone, and never follows a link."""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = found.st_size, int(found.st_mtime), 0o600
            hashing = Hashing(file)
            self._tar.addfile(entry, hashing)
        self.members[name] = hashing.member

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest, last: an archive without one was broken off."""
        content = manifest.encode()
        entry = tarfile.TarInfo(NAME)
        entry.size, entry.mode = len(content), 0o600
        self._tar.addfile(entry, io.BytesIO(content))


@contextmanager
def new_archive(destination: Path) -> Iterator[Writer]:
    """Write an archive that only we can read; it gets its name when it is whole and on the disk."""
    if destination.exists():
        raise AppError("backup_exists", 409, f"There already is a file {destination}.", "Name a file that is new.")
    scratch = destination.with_name(f".{destination.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                yield Writer(tar)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(destination)
        sync_folder(destination.parent)
    finally:
        scratch.unlink(missing_ok=True)


def verify(archive: Path) -> Manifest:
    """Read the whole archive, compare every member with the manifest, and return that."""
    manifest = None
    members: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None or not is_safe(entry.name) or entry.name in members or manifest:
                    raise damaged(f"its member {entry.name!r} has no place in it")
                if entry.name == NAME:
                    manifest = Manifest.decode(source.read(LARGEST_MANIFEST))
                    continue
                hashing = Hashing(source)
                while hashing.read(CHUNK):
                    pass
                members[entry.name] = hashing.member
    except OSError as error:
        why = error.strerror or error
        raise AppError("backup_unreadable", 422, f"The archive {archive} cannot be read: {why}.", READABLE) from error
    except tarfile.TarError as error:
        raise damaged(f"it is no whole archive ({error})") from error
    if manifest is None:
        raise damaged("it has no manifest at its end, so it was cut short")
    wrong = sorted(
        name for name in members.keys() | manifest.members.keys() if manifest.members.get(name) != members.get(name)
    )
    if wrong:
        raise damaged(f"{len(wrong)} of its members are not what the manifest says, the first is {wrong[0]}")
    return manifest


def is_safe(name: str) -> bool:
    """Whether the name stays below the folder that it is put in."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and bool(path.parts)


def extract(archive: Path, prefix: str, folder: Path) -> int:
    """Write the members below ``prefix`` into ``folder``, each all or nothing; the answer is how many."""
    count = 0
    with tarfile.open(archive, "r:") as tar:
        for entry in tar:
            if entry.isreg() and entry.name.startswith(prefix) and is_safe(entry.name):
                source = tar.extractfile(entry)
                if source is not None:
                    write(source, folder / entry.name.removeprefix(prefix))
                    count += 1
    return count


def write(source: IO[bytes], target: Path) -> None:
    """Write one file, readable by us alone."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name[:200]}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
        file.flush()
        os.fsync(descriptor)
    scratch.rename(target)
