"""The account that PostgreSQL runs as. It refuses to run as root, so root lends it an existing unprivileged one."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.embedded.errors import EmbeddedError

PREFERRED = ("innkeeper", "postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An entry of the passwd database (initdb insists on one)."""

    name: str
    uid: int
    gid: int

    @property
    def spawning(self) -> dict[str, Any]:
        """The arguments that make ``subprocess`` start a program as this account, with no group of ours left."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def may(self, wanted: int, path: Path) -> bool:
        """Whether the mode bits of ``path`` grant ``wanted`` (a sum of 4 read, 2 write, 1 enter)."""
        found = path.stat()
        if found.st_uid == self.uid:
            granted = found.st_mode >> 6
        elif found.st_gid == self.gid:
            granted = found.st_mode >> 3
        else:
            granted = found.st_mode
        return granted & wanted == wanted

    def reaches(self, path: Path) -> bool:
        """Whether every folder down to ``path``, which exists, can be entered."""
        real = path.resolve()
        return all(self.may(1, folder) for folder in (real, *real.parents) if folder.is_dir())


def account_for_postgres(progress: Callable[[str], None]) -> Account | None:
    """None when this process may run PostgreSQL itself; as root, the first of the known accounts that exists."""
    if os.geteuid() != 0:
        return None
    for name in PREFERRED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if name == "nobody":
            progress(
                "warning: PostgreSQL runs as 'nobody', which other services may share; "
                "better make an account for it: useradd --system innkeeper"
            )
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "no_account",
        "PostgreSQL does not run as root, and there is none of the accounts " + ", ".join(PREFERRED) + ".",
        "Make one (useradd --system innkeeper), or start Innkeeper as an ordinary user.",
    )


def is_ours_alone(folder: Path) -> bool:
    """Whether only this process's account can change what ``folder`` itself lists."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
