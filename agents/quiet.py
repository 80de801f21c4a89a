"""Importing half a million objects while streams are live, without anyone noticing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_SECONDS: Final = 0.0005


@contextmanager
def quietly() -> Iterator[None]:
    """Around work in another thread that imports a lot: it holds the interpreter in short turns and collects nothing.

    Each full collection would hold all streams up for hundreds of milliseconds; at the end what was made is frozen, or
    the next collection would walk through all of it.
    """
    interval = sys.getswitchinterval()
    collecting = gc.isenabled()
    sys.setswitchinterval(min(interval, SWITCH_SECONDS))
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.freeze()
        if collecting:
            gc.enable()
