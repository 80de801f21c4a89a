"""The folder of one cluster: made by initdb, its version read, exchanged by an upgrade. As root nothing in it is
trusted: it belongs to the account, links in it are not followed, what it says is only ever an argument for a choice
among fixed things."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from db.embedded.account import Account
from db.embedded.binaries import Binaries
from db.embedded.errors import EmbeddedError, server_failed
from db.embedded.place import make_folder
from db.embedded.server import Site, open_log
from db.embedded.state import SUPERUSER, State, sync_folder

NAME = "postgres"


def is_there(path: Path) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    return os.path.lexists(path)


def major_of(data: Path) -> int:
    """The major version that made the folder."""
    try:
        descriptor = os.open(data / "PG_VERSION", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError
            return int(file.read(16))
    except (OSError, ValueError) as error:
        raise EmbeddedError(
            "database_folder_damaged",
            f"The folder {data} does not say which PostgreSQL made it.",
            "Put the folder back from a copy, or restore a backup into a new data directory.",
        ) from error


def check_owner(data: Path, account: Account | None) -> None:
    """Refuse a folder that is a link or somebody else's, before anything is started in it."""
    found = data.lstat()
    owner = os.geteuid() if account is None else account.uid
    if stat.S_ISDIR(found.st_mode) and found.st_uid == owner:
        return
    name = account.name if account else f"number {owner}"
    raise EmbeddedError(
        "database_folder_owner",
        f"The database folder {data} is not a folder of the account {name}, which runs PostgreSQL here.",
        "Start Innkeeper with the account that made the data directory.",
    )


def remove(folder: Path) -> None:
    """Remove what an interrupted start left. Walks by descriptors, so a link in the folder leads nowhere."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def init_cluster(binaries: Binaries, site: Site, password: str, fast_unsafe: bool) -> None:
    """Make the cluster at ``site.data``, all or nothing: an interrupted initdb leaves nothing under that name."""
    scratch = site.data.with_name(f"{site.data.name}.new")
    remove(scratch)
    make_folder(scratch, site.account)
    handle, secret = tempfile.mkstemp(prefix=".initdb-", dir=scratch.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(password)
            if site.account is not None:
                os.fchown(handle, site.account.uid, site.account.gid)
        answer = site.as_account(*_initdb(binaries, scratch, secret, fast_unsafe))
    finally:
        Path(secret).unlink()
    if answer.returncode:
        remove(scratch)
        with open_log(site.log) as log:
            log.write((answer.stdout + answer.stderr).encode())
        raise server_failed("The database cluster cannot be made.", site.log, answer.stderr.strip().splitlines()[-5:])
    scratch.rename(site.data)
    sync_folder(site.data.parent)


def _initdb(binaries: Binaries, target: Path, secret: str, fast_unsafe: bool) -> list[str]:
    command = [
        binaries.program("initdb"),
        f"--pgdata={target}",
        f"--username={SUPERUSER}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-instructions",
        "--locale=C",
    ]
    if binaries.major >= 17:
        # Sorts the same on every machine: an upgrade of the C library never breaks an index.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if fast_unsafe:
        command.append("--no-sync")
    return command


def exchange(state: State, data_dir: Path, data: Path, upgraded: Path, old_major: int) -> Path:
    """Put ``upgraded`` in the place of ``data``; say where that is kept. `finish_exchange` makes good a crash."""
    kept, number = f"{NAME}-{old_major}.old", 1
    while is_there(data.with_name(kept)):
        number += 1
        kept = f"{NAME}-{old_major}.old.{number}"
    state.swap = kept
    state.save(data_dir)
    finish_exchange(state, data_dir, data, upgraded)
    return data.with_name(kept)


def finish_exchange(state: State, data_dir: Path, data: Path, upgraded: Path) -> None:
    """The renames of an upgrade: each step is skipped when it was taken before."""
    if state.swap is None:
        return
    kept = data.with_name(state.swap)
    if not is_there(kept):
        data.rename(kept)
    if is_there(upgraded):
        upgraded.rename(data)
    sync_folder(data.parent)
    state.swap = None
    state.save(data_dir)
