"""What a machine that has other work takes away from what is timed: no bar of a claim counts it.

A bar like "within 100 ms" is for a machine that has a processor for whoever is ready to run. Linux says how long each
thread was ready and had none. A product that is slow by itself, as it sleeps, blocks, computes, or waits for a lock,
has nothing of that, and is found out however busy the machine is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

_PROC: Final = Path("/proc")
_STEAL: Final = 8
"""Which field of a processor's line in /proc/stat (proc(5)): ticks in which the hypervisor ran somebody else."""


@dataclass(frozen=True)
class _Reading:
    """``ready``: of each process, for how long each of its threads has been so without a processor; ``stolen``: what
    the hypervisor took."""

    ready: dict[int, dict[str, float]]
    stolen: float
    clock: float


class Stopwatch:
    """Runs from when it is made. ``servers``: processes that this one waits for in turns, with what they started."""

    def __init__(self, *servers: int) -> None:
        self._servers = servers
        self._began = self._read()

    def seconds(self) -> float:
        """So far, but for those in which one of the processes stood ready, or the hypervisor ran somebody else."""
        return self._until(self._read())

    def lap(self) -> float:
        """The same, and begin anew."""
        now = self._read()
        seconds, self._began = self._until(now), now
        return seconds

    def _until(self, now: _Reading) -> float:
        before = self._began
        lost = now.stolen - before.stolen
        for pid, threads in now.ready.items():
            known = before.ready.get(pid, {})
            # Of threads that share an interpreter one runs at a time.
            lost += max((seconds - known.get(name, 0.0) for name, seconds in threads.items()), default=0.0)
        return max(0.0, now.clock - before.clock - lost)

    def _read(self) -> _Reading:
        pids = [os.getpid(), *(pid for server in self._servers for pid in _family(server))]
        return _Reading({pid: _ready(pid) for pid in pids}, _stolen(), perf_counter())


async def within(bar: float, measure: Callable[[], Awaitable[float]], attempts: int = 3) -> None:
    """What ``measure`` finds is no more than ``bar``, at one of its attempts: also disks stand still, and so do whole
    machines. What goes wrong otherwise is not tried again."""
    found: list[float] = []
    while len(found) < attempts:
        found.append(await measure())
        if found[-1] <= bar:
            return
    raise AssertionError(f"more than {bar}: {found}")


def _ready(pid: int) -> dict[str, float]:
    """For how many seconds each thread of a process has been ready without a processor: the second number of
    ``schedstat`` (Linux, Documentation/scheduler/sched-stats.rst). Nothing where that is not told."""
    found = {}
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):  # it has ended
                found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


def _family(pid: int) -> Iterator[int]:
    """A process and those that it started (proc(5), /proc/PID/task/TID/children)."""
    yield pid
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from _family(int(child))


def _stolen() -> float:
    """Seconds, of the processor that lost the most."""
    with suppress(OSError):
        lines = (line.split() for line in (_PROC / "stat").read_text().splitlines())
        ticks = [int(fields[_STEAL]) for fields in lines if fields[0].startswith("cpu") and fields[0] != "cpu"]
        return max(ticks) / os.sysconf("SC_CLK_TCK")
    return 0.0
