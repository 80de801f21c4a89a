"""The directory of the local store. Everything here blocks, and is called in threads.

    files/{project}/{first 6 digits of the file's id}/{file}       what was accepted; temporary/ likewise
    registry/{project}/{first 2 digits of the sum}/{sum}           what the house itself put there
    incoming/{the same again}                                      what upload tickets brought
    parts/{upload}/{number}                                        what tickets of parts brought
    .drafts/                                                       what is being written; backups leave it out

Beside an object stands ``{file}.sha256`` as ``sha256sum`` writes it: known without reading the object, and no loss
when it is missing. Ids begin with the time, so the directories in between keep each one short, and in order. A draft
is synced to the disk and then gets its name by a link, which fails where the name is taken: no reader sees half of an
object, and no two writers write one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

from tools.store import Part, StoredObject

CHUNK: Final = 1 << 18
DIGITS: Final = {"files": 6, "temporary": 6, "registry": 2}
_KEY: Final = re.compile(r"(files|temporary|registry)/([0-9a-f-]{36})/([0-9a-f-]{36,64})", re.ASCII)
_UPLOAD: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
SUM: Final = ".sha256"


class Draft:
    """Bytes on their way to a name. ``write`` as they come, and ``close`` whether or not they got one."""

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self.size = 0
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class LocalDisk:
    """``root`` is ours alone (mode 0700) and made when it is missing. Raises ``OSError`` for what a disk may do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self) -> None:
        for name in (".drafts", "parts", "incoming"):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, key: str, *, incoming: bool = False) -> Path:
        """Where the object of a key is. Raises ``ValueError`` for anything but a key: none leads elsewhere."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError("not a key")
        kind, project, file = found.groups()
        return (self.root / "incoming" if incoming else self.root) / kind / project / file[: DIGITS[kind]] / file

    def draft(self) -> Draft:
        return Draft(self.root / ".drafts")

    def has_come(self, key: str) -> bool:
        """Whether an upload ticket of the key was used, or is sealed."""
        return self.path(key, incoming=True).exists()

    def take(self, key: str, draft: Draft) -> bool:
        """Keep what an upload ticket brought; False where there is something already."""
        return _publish(draft, self.path(key, incoming=True))

    def take_part(self, upload_id: str, number: int, draft: Draft) -> bool:
        """Keep a part, in place of an earlier one of its number; False for an upload that has ended."""
        draft.sync()
        try:
            draft.path.replace(self.upload(upload_id) / str(number))
        except FileNotFoundError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        draft, target = self.draft(), self.path(key)
        try:
            draft.write(data)
            draft.sync()
            _named(target, lambda: draft.path.replace(target))
            _note(target, draft.sha256)
        finally:
            draft.close()

    def found(self, key: str) -> StoredObject | None:
        path = self.path(key)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        return StoredObject(key, stat.st_size, _moment(stat), _noted(path))

    def open(self, key: str) -> tuple[int, os.stat_result] | None:
        """A descriptor to read the object by, which whoever called closes."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        return descriptor, os.fstat(descriptor)

    def read(self, key: str, offset: int, length: int) -> bytes:
        opened = self.open(key)
        if opened is None:
            return b""
        try:
            return _read(opened[0], offset, length)
        finally:
            os.close(opened[0])

    def accept(self, key: str) -> None:
        """Give what has come the key's own name. It keeps its first one, which so stays taken."""
        source, target = self.path(key, incoming=True), self.path(key)
        if source.exists() and _named(target, lambda: target.hardlink_to(source)) and (digest := _noted(source)):
            _note(target, digest)

    def seal(self, key: str) -> None:
        draft, target = self.draft(), self.path(key, incoming=True)
        try:
            _named(target, lambda: draft.path.replace(target))
        finally:
            draft.close()

    def delete(self, key: str) -> None:
        path = self.path(key)
        path.unlink(missing_ok=True)
        _sum_of(path).unlink(missing_ok=True)

    def upload(self, upload_id: str) -> Path:
        """The directory of an upload in parts. Raises ``ValueError`` for what is not the name of one."""
        if not _UPLOAD.fullmatch(upload_id):
            raise ValueError("not an upload")
        return self.root / "parts" / upload_id

    def parts(self, upload_id: str) -> list[Part]:
        try:
            names = [path for path in self.upload(upload_id).iterdir() if path.name.isdigit()]
        except FileNotFoundError:
            return []
        found = (Part(int(path.name), path.stat().st_size, path.name) for path in names)
        return sorted(found, key=lambda part: part.number)

    def join(self, key: str, upload_id: str, numbers: list[int]) -> None:
        """Make the object of the parts. Done twice, or at once, it is done once."""
        folder, draft = self.upload(upload_id), self.draft()
        try:
            for number in numbers:
                with (folder / str(number)).open("rb", buffering=0) as part:
                    while data := part.read(CHUNK):
                        draft.write(data)
            _publish(draft, self.path(key))
        finally:
            draft.close()
        shutil.rmtree(folder, ignore_errors=True)

    def abort(self, upload_id: str) -> None:
        shutil.rmtree(self.upload(upload_id), ignore_errors=True)

    def pages(self, prefix: str, after: str) -> Iterator[list[StoredObject]]:
        """The objects behind ``after``, directory by directory, in the order of their keys."""
        kind, _, project = prefix.rstrip("/").partition("/")
        for name in [project] if project else _names(self.root / kind):
            for shard in _names(self.root / kind / name):
                start = f"{kind}/{name}/{shard}"
                if start >= after[: len(start)]:
                    folder = self.root / start
                    yield [one for one in self._objects(f"{kind}/{name}/", folder) if one.key > after]

    def _objects(self, prefix: str, folder: Path) -> Iterator[StoredObject]:
        for name in _names(folder):
            if not name.endswith(SUM):
                with suppress(FileNotFoundError):
                    stat = (folder / name).stat()
                    yield StoredObject(prefix + name, stat.st_size, _moment(stat))

    def sweep(self, before: datetime) -> int:
        """Remove what lies in ``incoming``, ``parts`` and ``.drafts`` since ``before``, and directories left empty."""
        removed, limit = 0, before.timestamp()
        for top in ("incoming", "parts", ".drafts", *DIGITS):
            for folder, _folders, names in os.walk(self.root / top, topdown=False):
                if top not in DIGITS:
                    removed += sum(_remove_older(Path(folder, name), limit) for name in names)
                if Path(folder).parent != self.root:
                    with suppress(OSError):  # not empty, or already gone
                        Path(folder).rmdir()
        return removed


def _read(descriptor: int, offset: int, length: int) -> bytes:
    found = bytearray()
    while len(found) < length and (more := os.pread(descriptor, length - len(found), offset + len(found))):
        found += more
    return bytes(found)


def _publish(draft: Draft, target: Path) -> bool:
    draft.sync()
    if not _named(target, lambda: target.hardlink_to(draft.path)):
        return False
    _note(target, draft.sha256)
    return True


def _named(target: Path, give: Callable[[], object]) -> bool:
    """Have ``give`` give the name ``target``, in a directory that a sweep may take away just before; False if the name
    is taken."""
    for last in (False, True):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            give()
            break
        except FileExistsError:
            return False
        except FileNotFoundError:
            if last:
                raise
    _sync_folder(target.parent)
    return True


def _sum_of(path: Path) -> Path:
    return path.with_name(path.name + SUM)


def _note(path: Path, digest: str) -> None:
    """Write down the SHA-256 of an object."""
    draft = path.with_name(f".{path.name}.{token_hex(6)}")
    draft.write_text(f"{digest}  {path.name}\n")
    draft.replace(_sum_of(path))


def _noted(path: Path) -> str | None:
    try:
        text = _sum_of(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text[:64] if re.fullmatch(rf"[0-9a-f]{{64}}  {path.name}\n", text) else None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _moment(stat: os.stat_result) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime, UTC)


def _remove_older(path: Path, limit: float) -> bool:
    try:
        if path.lstat().st_mtime >= limit:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return not path.name.endswith(SUM)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
