"""One root secret, and every other key derived from it by a label."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Keyring:
    """Keys for separate uses, none of which tells anything about another (HKDF-SHA256, RFC 5869).

    The first root is the one that is used; what was made with one of the others is still accepted: the root before, and
    the one to come while processes are told of it one after the other. ``read`` gives the roots anew at each use, for a
    process under which they are replaced.
    """

    __slots__ = ("_read",)

    def __init__(self, *roots: bytes, read: Callable[[], tuple[bytes, ...]] | None = None) -> None:
        self._read = read or (lambda: roots)

    def derive(self, label: str, length: int = 32) -> bytes:
        """The key for ``label``; the same root and label always give the same key."""
        return _derived(self._read()[0], label, length)

    def signing_keys(self, label: str) -> tuple[tuple[str, bytes], ...]:
        """(key id, key) of each root: the first to sign or encrypt with, all of them to check and to decrypt."""
        return tuple((_key_id(root), _derived(root, label, 32)) for root in self._read())

    @property
    def key_id(self) -> str:
        """Names the root without telling it: stored beside what was encrypted, so that a wrong root is noticed."""
        return _key_id(self._read()[0])

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Of all roots, the one in use first."""
        return tuple(_key_id(root) for root in self._read())

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.key_ids)})"


class RootFiles:
    """The roots of a data directory: the one in use, and a line for each other one that is accepted.

    Looked at again at each use, and read when one of the files was replaced: ``keys rotate`` does so under a running
    ``up``. Every file is replaced as a whole, the older root being written down before the newer one counts. Roots that
    were read once outlive a file that is gone.
    """

    def __init__(self, current: Path, previous: Path) -> None:
        self._paths = (current, previous)
        self._seen: tuple[object, ...] = ()
        self._roots: tuple[bytes, ...] = ()

    def __call__(self) -> tuple[bytes, ...]:
        seen = tuple(map(_version, self._paths))
        if seen != self._seen and seen[0] is not None:
            lines = [line for path in self._paths if path.exists() for line in path.read_text().split()]
            self._roots = tuple(dict.fromkeys(line.encode() for line in lines))
            self._seen = seen
        return self._roots


def root_secret_file(path: Path) -> str:
    """The root secret kept in ``path`` (mode 0600), made when there is none. Two processes racing get the same one."""
    write_once(path, new_root() + "\n")
    return path.read_text().strip()


def new_root() -> str:
    return secrets.token_urlsafe(48)


def write_once(path: Path, text: str) -> bool:
    """Write ``path`` with mode 0600, whole or not at all, unless it exists. True when this call wrote it."""
    draft = _draft(path, text)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    else:
        return True
    finally:
        draft.unlink()


def replace(path: Path, text: str) -> None:
    """Write ``path`` with mode 0600 in the place of what is there, whole or not at all."""
    _draft(path, text).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _version(path: Path) -> tuple[int, int] | None:
    """Tells one content of a file that is only ever replaced from another."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@lru_cache(maxsize=256)
def _derived(root: bytes, label: str, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=f"innkeeper/{label}".encode()).derive(root)


def _key_id(root: bytes) -> str:
    return _derived(root, "key-id", 4).hex()
