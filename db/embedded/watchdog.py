"""The parent of PostgreSQL, run as a script of its own: when its owner dies in any way, PostgreSQL stops at once.

It imports nothing of Innkeeper and nothing heavy. Arguments: uid, gid (-1 to keep ours), descriptor of the lock to
hold, then PostgreSQL's command. Standard input is a pipe from the owner: a line on it asks for an orderly stop, its end
means that the owner is dead. Standard output tells the owner ``pid N``, later ``exit STATUS``.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

# Seconds until the next, harder signal: an orderly stop has time for its checkpoint, a dead owner's has not.
ORDERLY = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
ABANDONED = ((signal.SIGINT, 0.6), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def tell(line: str) -> None:
    with suppress(OSError):  # the owner is gone, nobody listens
        os.write(1, line.encode())


def ended(pid: int, wake: int, owner: int, patience: float | None) -> bool:
    """Wait for the end of PostgreSQL; without a limit to the patience, also for a sign of the owner (False)."""
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            tell(f"exit {os.waitstatus_to_exitcode(status)}\n")
            return True
        rest = None if deadline is None else deadline - time.monotonic()
        if rest is not None and rest <= 0:
            return False
        # A second is the net below a lost wake-up, and below an owner whose pipe a forked child still holds.
        limit = 1.0 if rest is None else min(1.0, rest)
        ready = select.select([wake] if patience is not None else [wake, 0], [], [], limit)[0]
        if wake in ready:
            os.read(wake, 64)
        if patience is None and (0 in ready or os.getppid() != owner):
            return False


def main() -> None:
    owner = os.getppid()
    uid, gid, lock = (int(word) for word in sys.argv[1:4])
    command = sys.argv[4:]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    wake, poke = os.pipe()
    os.set_blocking(poke, False)
    signal.set_wakeup_fd(poke)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    os.set_inheritable(lock, False)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
    try:
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=files, setsigdef=SIGNALS)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error}\n".encode())
        tell("exit 127\n")
        return
    tell(f"pid {pid}\n")
    if ended(pid, wake, owner, None):
        return
    asked = bool(select.select([0], [], [], 0)[0]) and bool(os.read(0, 64))
    for number, patience in ORDERLY if asked else ABANDONED:
        os.kill(pid, number)
        if ended(pid, wake, owner, patience):
            return


if __name__ == "__main__":
    main()
