"""What the commands print: results on stdout, progress and refusals on stderr.

Names in it were chosen by others, at an issuer or in a project, and a terminal obeys what it is told to print: of
control characters only line breaks and tabs are left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from time import monotonic

Progress = Callable[[str], None]


def put(text: str) -> None:
    """One line on stdout."""
    sys.stdout.write(shown(text) + "\n")
    sys.stdout.flush()


def put_all(lines: Iterable[str]) -> None:
    """Each on stdout; on stderr that there is none, so that silence is not taken for a fault."""
    texts = list(lines)
    for text in texts:
        put(text)
    if not texts:
        note("There is none.")


def note(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(shown(text) + "\n")
    sys.stderr.flush()


def shown(text: str) -> str:
    """``text`` without what a terminal would obey, or would show in another order than it stands there."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def progress() -> Progress:
    """A function that notes a step with the seconds since this call."""
    began = monotonic()
    return lambda text: note(f"[{monotonic() - began:5.1f}s] {text}")
