"""Files of other programs, changed whole or not at all: links followed, mode kept, what was there kept beside it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.refusal import Refusal

BACKUP: Final = ".before-innkeeper"
PRIVATE: Final = 0o600
LARGEST: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Contents:
    """What was read. ``text`` is ``None`` where there was no file; ``real``: the file behind all links."""

    real: Path
    text: str | None


def read(path: Path) -> Contents:
    """Raises :class:`Refusal` for what is no readable text file."""
    try:
        real = path.resolve()
        if not real.exists():
            return Contents(real, None)
        if not real.is_file() or real.stat().st_size > LARGEST:
            raise Refusal(f"{path} is no configuration file: it is left alone.")
        return Contents(real, real.read_bytes().decode())
    except (OSError, RuntimeError) as error:
        raise Refusal(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    except UnicodeDecodeError:
        raise Refusal(f"{path} is not UTF-8: it is left alone.") from None


def write(before: Contents, text: str, *, backup: bool = True) -> None:
    """Put ``text`` in the place of what was read. Raises :class:`Refusal` when somebody else has changed it since."""
    real = before.real
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if read(real).text != before.text:
            raise Refusal(f"{real} was changed by another program at this moment: try again.")
        if before.text is not None and not os.access(real, os.W_OK):
            raise Refusal(f"{real} is write-protected: it is left alone.")
        if before.text is not None and backup:
            _replace(real.with_name(real.name + BACKUP), before.text, like=real)
        _replace(real, text, like=real)
    except OSError as error:
        raise Refusal(f"{real} cannot be written ({error.strerror}): nothing was changed.") from None


def missing(path: Path) -> int:
    """How many of the folders around it are not there."""
    return sum(not folder.exists() for folder in path.parents)


def forget(before: Contents, text: str, gone: bool, *, folders: int = 0) -> None:
    """Put back ``text``, or no file at all when it is to be ``gone``, nor so many ``folders`` around it if they are
    empty; the backup goes when it says the same."""
    kept = before.real.with_name(before.real.name + BACKUP)
    if gone:
        before.real.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for folder in before.real.parents[:folders]:
                folder.rmdir()
    else:
        write(before, text, backup=False)
    if kept.exists() and kept.read_bytes() == text.encode():
        kept.unlink()


def write_private(path: Path, text: str) -> None:
    """A file of ours, mode 0600, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(path, text, like=None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time for this file of ours, where the system has such locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str, like: Path | None) -> None:
    """``like``: whose mode and owner it gets, if that exists; otherwise only its owner may read it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if like is not None and like.exists():
            found = like.stat()
            draft.chmod(stat.S_IMODE(found.st_mode))
            if hasattr(os, "chown"):
                with contextlib.suppress(PermissionError):
                    os.chown(draft, found.st_uid, found.st_gid)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
