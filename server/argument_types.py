"""What the command line takes for values: each reads a word and says what it should have been."""

from __future__ import annotations

import argparse
import re


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def server_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: give letters, digits, '-' and '_'")
    return text


def families(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if not names or not all(re.fullmatch(r"[a-z_]+", name) for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} are no families of tools: give some as in projects,runs")
    return names


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: give 1 or more")
    return int(text)
