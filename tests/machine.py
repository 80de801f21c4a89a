"""What a machine that has other work takes away from what is timed: no bar of a claim counts it.

A bar like "within 100 ms" is for a machine that has a processor for whoever is ready to run. Linux says how long each
thread was ready and had none. A product that is slow by itself, as it sleeps, blocks, computes, or waits for a lock,
has nothing of that, and is found out however busy the machine is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

_PROC: Final = Path("/proc")
_STEAL: Final = 8
"""Which field of a processor's line in /proc/stat (proc(5)): ticks in which the hypervisor ran somebody else."""


def stood_ready(pid: int, *, family: bool = False) -> float:
    """Seconds that the threads of a process have been ready to run without a processor, as Linux counts them: the
    second number of ``schedstat`` (Documentation/scheduler/sched-stats.rst). ``family``: and those that it started."""
    seconds = 0.0
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):  # it has ended
                seconds += int((thread / "schedstat").read_text().split()[1]) / 1e9
                if family:
                    children = (thread / "children").read_text().split()
                    seconds += sum(stood_ready(int(child), family=True) for child in children)
    return seconds


class Stopwatch:
    """``took``: the seconds between entering and leaving, but for those in which this process, or the family of
    ``server``, stood ready, and those that the hypervisor gave to others. With a server's help each waits for the other
    in turns, so that these add up."""

    def __init__(self, server: int | None = None) -> None:
        self.took = 0.0
        self._server = server

    def __enter__(self) -> Self:
        self._lost_before = self._lost()
        self._began = perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        elapsed = perf_counter() - self._began
        self.took = max(0.0, elapsed - (self._lost() - self._lost_before))

    def _lost(self) -> float:
        served = stood_ready(self._server, family=True) if self._server is not None else 0.0
        return stood_ready(os.getpid()) + served + _stolen()


def _stolen() -> float:
    """Seconds, on the processor that lost the most."""
    with suppress(OSError):
        lines = (line.split() for line in (_PROC / "stat").read_text().splitlines())
        ticks = [int(fields[_STEAL]) for fields in lines if fields[0].startswith("cpu") and fields[0] != "cpu"]
        return max(ticks) / os.sysconf("SC_CLK_TCK")
    return 0.0


async def within(bar: float, measure: Callable[[], Awaitable[float]], attempts: int = 3) -> None:
    """What ``measure`` finds is no more than ``bar``, at one of its attempts: also disks stand still, and so do whole
    machines. What goes wrong otherwise is not tried again."""
    found: list[float] = []
    while len(found) < attempts:
        found.append(await measure())
        if found[-1] <= bar:
            return
    raise AssertionError(f"more than {bar}: {found}")
