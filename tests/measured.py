"""Pytest plugin: coverage measures the tests' own processes, and of those that they start only those that ask for it.

Measuring doubles what a process costs. It is worth that where code runs that runs nowhere else: the commands. It is
worth nothing for processes of other people's code, for those that are killed (what they measured dies with them), and
for another start of what was measured before; and what is held to seconds or bytes must not be measured at all.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Final

import pytest

VARIABLE: Final = "COVERAGE_PROCESS_CONFIG"
MEASURED: Final[dict[str, str]] = {}
"""What the environment of a process needs for it to be measured; empty in a run without coverage."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart() -> Generator[None, None, None]:
    """Here, as pytest-cov begins to measure the process that starts the workers before this, and a worker in it."""
    _take()
    yield
    _take()


def _take() -> None:
    if found := os.environ.pop(VARIABLE, None):
        MEASURED[VARIABLE] = found
