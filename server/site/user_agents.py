"""What a User-Agent field (RFC 9110, 10.1.5) says to a person: the families of the browser and of its system.

Browsers name those that they want to be taken for too, so the first one found below is meant: Edge says it is Chrome
and Safari. The field is anybody's word, and helps people to tell their own browsers apart, no more.
"""

from __future__ import annotations

import re
from typing import Final

BROWSERS: Final = (
    ("Edge", ("Edg/", "EdgA/", "EdgiOS/")),
    ("Opera", ("OPR/", "OPT/", "OPiOS/")),
    ("Samsung Internet", ("SamsungBrowser/",)),
    ("Firefox", ("Firefox/", "FxiOS/")),
    ("Chrome", ("Chrome/", "CriOS/")),
    ("Safari", ("Safari/",)),
)
SYSTEMS: Final = (
    ("Windows", ("Windows",)),
    ("Android", ("Android",)),
    ("iPhone", ("iPhone",)),
    ("iPad", ("iPad",)),
    ("macOS", ("Macintosh",)),
    ("ChromeOS", ("CrOS",)),
    ("Linux", ("Linux", "X11")),
)
_PROGRAM: Final = re.compile(r"[A-Za-z][\w.-]{0,29}")


def described(agent: str | None) -> str:
    """``Firefox on Windows``; of a program its first word; ``A browser`` of one that says nothing known."""
    said = agent or ""
    browser, system = _first(BROWSERS, said), _first(SYSTEMS, said)
    if browser is None:
        program = _PROGRAM.match(said)
        browser = program[0] if program and program[0] != "Mozilla" else "A browser"
    return f"{browser} on {system}" if system else browser


def _first(families: tuple[tuple[str, tuple[str, ...]], ...], said: str) -> str | None:
    return next((name for name, marks in families if any(mark in said for mark in marks)), None)
