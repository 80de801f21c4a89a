"""What the commands print: results on stdout, progress and refusals on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic

Progress = Callable[[str], None]


def put(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def progress() -> Progress:
    """A function that notes a step with the seconds since this call."""
    began = monotonic()
    return lambda text: note(f"[{monotonic() - began:5.1f}s] {text}")
