"""What an earlier PostgreSQL left in its folder: a server nobody owns, processes without one, lock files of the dead.

Who lives is asked by the protocol or by the kernel, never by a pid that a file names.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from db.embedded.place import SOCKET

if TYPE_CHECKING:
    from db.embedded.binaries import Binaries
    from db.embedded.server import Site

LOCK_FILE: Final = "postmaster.pid"
PROCESSES: Final = Path("/proc")
# First what the dead server would have sent them, then what also ends a process that stands still.
ORPHANS: Final = ((signal.SIGQUIT, 2.0), (signal.SIGKILL, 3.0))


def stop_unowned(binaries: Binaries, site: Site) -> bool:
    """Stop a PostgreSQL that outlived both its owner and its watchdog. True when there was one.

    The signal is sent as the account.
    """
    if not os.path.lexists(site.data / LOCK_FILE):
        return False
    answer = site.as_account(binaries.program("pg_isready"), "-q", "-t", "2", "-h", str(site.sockets))
    if answer.returncode > 1:
        return False
    site.as_account(binaries.program("pg_ctl"), "stop", "-m", "fast", "-t", "20", "-D", str(site.data))
    return True


def remedied(refusal: str, binaries: Binaries, site: Site) -> bool:
    """Clear what a server would not start for, by its own words. True when another attempt is worth it."""
    if 'lock file "' in refusal and "already exists" in refusal:
        return forget_dead_owner(site)
    if "shared memory block" in refusal and "still in use" in refusal:
        return end_orphans(binaries, site)
    return False


def forget_dead_owner(site: Site) -> bool:
    """Remove the lock files of a dead server whose pid another process has now (usual in containers).

    Only when no process at all works in the folder, as every process of PostgreSQL does. True when that is so.
    """
    if not PROCESSES.is_dir() or any(True for _ in _working_in(site.data)):
        return False
    (site.data / LOCK_FILE).unlink(missing_ok=True)
    (site.sockets / f"{SOCKET}.lock").unlink(missing_ok=True)
    return True


def end_orphans(binaries: Binaries, site: Site) -> bool:
    """End the processes that outlived their server, which was killed: they hold its shared memory until they notice,
    and a long statement does not look. False when they do not end, or a server lives."""
    program, folder = Path(binaries.program("postgres")).stat(), site.data.stat()

    def is_orphan(pid: int) -> bool:
        return _is(pid, "exe", program) and _is(pid, "cwd", folder) and not _is_server(pid)

    for number, seconds in ORPHANS:
        deadline = time.monotonic() + seconds
        while processes := [pid for pid in _working_in(site.data) if _is(pid, "exe", program)]:
            if any(_is_server(pid) for pid in processes):
                return False
            if time.monotonic() > deadline:
                break
            for pid in processes:
                _send(number, pid, is_orphan)
            time.sleep(0.02)
        else:
            return PROCESSES.is_dir()
    return False


def _working_in(folder: Path) -> Iterator[int]:
    """The processes whose working folder this is, on systems that tell."""
    wanted = folder.stat()
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if entry.name.isdigit() and _is(int(entry.name), "cwd", wanted):
            yield int(entry.name)


def _is(pid: int, link: str, wanted: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat((PROCESSES / str(pid) / link).stat(), wanted)
    return False


def _is_server(pid: int) -> bool:
    """The first process of a PostgreSQL shows its command line; all others are called "postgres: ..."."""
    with suppress(OSError):
        command = (PROCESSES / str(pid) / "cmdline").read_bytes()
        return bool(command) and not command.startswith(b"postgres: ")
    return False


def _send(number: signal.Signals, pid: int, to: Callable[[int], bool]) -> None:
    """A signal through a descriptor, which goes on naming the same process, looked at while it is open."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if to(pid):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
