"""One root secret, and every other key derived from it by a label."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Keyring:
    """Keys for separate uses, none of which tells anything about another (HKDF-SHA256, RFC 5869)."""

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        self._root = root

    def derive(self, label: str, length: int = 32) -> bytes:
        """The key for ``label``; the same root and label always give the same key."""
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=f"innkeeper/{label}".encode()).derive(self._root)

    @property
    def key_id(self) -> str:
        """Names the root without telling it: stored beside what was encrypted, so that a wrong root is noticed."""
        return self.derive("key-id", 4).hex()

    def __repr__(self) -> str:
        return f"Keyring({self.key_id})"


def root_secret_file(path: Path) -> str:
    """The root secret kept in ``path`` (mode 0600), made when there is none. Two processes racing get the same one."""
    write_once(path, secrets.token_urlsafe(48) + "\n")
    return path.read_text().strip()


def write_once(path: Path, text: str) -> bool:
    """Write ``path`` with mode 0600, whole or not at all, unless it exists. True when this call wrote it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    else:
        return True
    finally:
        draft.unlink()
