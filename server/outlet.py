"""Text on its way out of the process by a thread of its own: whoever logs never waits for whoever reads.

A pipe holds some 64 KB. When nobody reads it any more, the next write waits until somebody does, and an event loop that
waited there would serve nobody.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Final

MOST_WAITING: Final = 1 << 20
"""Characters that wait for a reader. Lines beyond are lost, and counted."""
LAST_WORDS_SECONDS: Final = 1.0
"""How long the end of the process waits for a reader."""


class Outlet:
    """Writes whole lines to a file descriptor, in order. ``lost`` makes the line that says how many are missing, which
    goes out as soon as there is room again."""

    def __init__(self, descriptor: int, lost: Callable[[int], str], most: int = MOST_WAITING) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._most = most
        self._waiting: list[str] = []
        self._size = 0
        self._missing = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, lines: str) -> None:
        """Pass on whole lines, or lose them: never wait."""
        with self._changed:
            if self._missing or (self._size and self._size + len(lines) > self._most):
                self._missing += lines.count("\n")
                return
            self._waiting.append(lines)
            self._size += len(lines)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self, seconds: float = LAST_WORDS_SECONDS) -> None:
        """Wait until everything is out, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                taken, self._waiting = self._waiting, []
            self._put("".join(taken))
            with self._changed:
                self._size -= sum(map(len, taken))
                missing, self._missing = self._missing, 0
                if missing:
                    said = self._lost(missing)
                    self._waiting.append(said)
                    self._size += len(said)
                self._changed.notify_all()

    def _put(self, text: str) -> None:
        """Straight to the descriptor: a thread that waits inside ``sys.stderr`` would hold its lock when the process
        ends."""
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever started us made its end so
                select.select([], [self._descriptor], [])
            except OSError:
                return  # nobody will ever read it: no request fails for that
