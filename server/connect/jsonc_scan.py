"""JSON with comments, scanned: what it says, and where each part of it stands.

Commas before a closing bracket and a byte order mark are taken, as editors take them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from server.connect.faults import Malformed

DEEPEST: Final = 200
WHITE: Final = " \t\r\n"
BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it stands. ``members``: of an object."""

    start: int
    end: int
    value: Any
    members: tuple[Member, ...] | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """``start``: of the quoted key; ``comma``: of the comma behind the value, if there is one."""

    key: str
    start: int
    value: Value
    comma: int | None


def scan(text: str) -> Value:
    """The document. Raises :class:`Malformed` with line and column."""
    at = _gap(text, len(BOM) if text.startswith(BOM) else 0)
    found = _value(text, at, 0)
    at = _gap(text, found.end)
    if at != len(text):
        raise wrong(text, at, "nothing more was expected here")
    return found


def _value(text: str, at: int, depth: int) -> Value:
    if depth > DEEPEST:
        raise wrong(text, at, "this is nested too deeply")
    if text.startswith("{", at):
        return _object(text, at, depth)
    if text.startswith("[", at):
        return _array(text, at, depth)
    try:
        value, end = _DECODER.raw_decode(text, at)
    except ValueError:
        raise wrong(text, at, "a value was expected here") from None
    return Value(at, end, value)


def _object(text: str, start: int, depth: int) -> Value:
    members: list[Member] = []
    at = _gap(text, start + 1)
    while not text.startswith("}", at):
        if members and members[-1].comma is None:
            raise wrong(text, at, 'a comma or "}" was expected here')
        if not text.startswith('"', at):
            raise wrong(text, at, "a name in quotes was expected here")
        key = _value(text, at, depth + 1)
        colon = _gap(text, key.end)
        if not text.startswith(":", colon):
            raise wrong(text, colon, "a colon was expected here")
        value = _value(text, _gap(text, colon + 1), depth + 1)
        behind = _gap(text, value.end)
        comma = behind if text.startswith(",", behind) else None
        members.append(Member(key.value, at, value, comma))
        at = behind if comma is None else _gap(text, comma + 1)
    return Value(start, at + 1, {member.key: member.value.value for member in members}, tuple(members))


def _array(text: str, start: int, depth: int) -> Value:
    values: list[Any] = []
    at = _gap(text, start + 1)
    open_ = True
    while not text.startswith("]", at):
        if not open_:
            raise wrong(text, at, 'a comma or "]" was expected here')
        found = _value(text, at, depth + 1)
        values.append(found.value)
        at = _gap(text, found.end)
        open_ = text.startswith(",", at)
        if open_:
            at = _gap(text, at + 1)
    return Value(start, at + 1, values)


def _gap(text: str, at: int) -> int:
    """The end of the white space and comments at ``at``."""
    while True:
        while at < len(text) and text[at] in WHITE:
            at += 1
        if text.startswith("//", at):
            line_end = text.find("\n", at)
            at = len(text) if line_end < 0 else line_end
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            if end < 0:
                raise wrong(text, at, "this comment does not end")
            at = end + 2
        else:
            return at


def wrong(text: str, at: int, what: str) -> Malformed:
    """The fault at ``at``, with its line and column."""
    line = text.count("\n", 0, at) + 1
    return Malformed(f"Line {line}, column {at - text.rfind(chr(10), 0, at)}: {what}.")


def _no_constant(name: str) -> None:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)
