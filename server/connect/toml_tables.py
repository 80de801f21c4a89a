"""Edits of Codex's ``config.toml``: one table is put in at the end and taken out again; nothing else is written anew.

Each edit is parsed again before it counts, and must say what the file said before, but for that one table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from server.connect.faults import Malformed

SERVERS: Final = "mcp_servers"
_HEADER: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def get(text: str, name: str) -> Any:
    """The table of the server ``name``; ``None`` where there is none. Raises :class:`Malformed`."""
    servers = _parse(text).get(SERVERS, {})
    if not isinstance(servers, dict):
        raise Malformed(f"{SERVERS} is no table.")
    return servers.get(name)


def add(text: str, name: str, fields: Mapping[str, str]) -> tuple[str, str]:
    """The text with the table, and what was put in."""
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else newline if text.endswith("\n") else newline * 2
    lines = [f"[{SERVERS}.{_key(name)}]", *(f"{key} = {_string(value)}" for key, value in fields.items())]
    put_in = gap + newline.join(lines) + newline
    wanted = _parse(text)
    wanted.setdefault(SERVERS, {})[name] = dict(fields)
    return _checked(text + put_in, wanted), put_in


def remove(text: str, name: str, put_in: str | None) -> str:
    """The text without the table and the tables in it. ``put_in``: what :func:`add` said, if it is known."""
    wanted = _parse(text)
    if name not in wanted.get(SERVERS, {}):
        return text
    del wanted[SERVERS][name]
    if not wanted[SERVERS] and SERVERS not in _parse(_cut(text, name)):
        del wanted[SERVERS]
    if put_in and text.count(put_in) == 1:
        try:
            return _checked(text.replace(put_in, ""), wanted)
        except Malformed:
            pass
    return _checked(_cut(text, name), wanted)


def _cut(text: str, name: str) -> str:
    """Without the sections of the table, each from its header to its last line that says something."""
    either = "|".join({re.escape(name), re.escape(json.dumps(name)), re.escape(f"'{name}'")})
    ours = re.compile(rf"[ \t]*\[[ \t]*{SERVERS}[ \t]*\.[ \t]*(?:{either})[ \t]*(?:\.[^\]\n]*)?\]")
    starts = [found.start() for found in _HEADER.finditer(text)]
    for start, end in reversed(list(zip(starts, [*starts[1:], len(text)], strict=True))):
        if ours.match(text, start):
            text = text[:start] + text[start + _length(text[start:end]) :]
    return text


def _length(section: str) -> int:
    """Of a section without the blank lines and comments at its end, which belong to what comes next."""
    lines = section.splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return sum(map(len, lines))


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"{error}.") from None


def _checked(edited: str, wanted: dict[str, Any]) -> str:
    """Compared as they are spelled, since a NaN is not equal to itself."""
    try:
        found = _parse(edited)
    except Malformed:
        found = None
    if repr(found) != repr(wanted):
        raise Malformed("The file is written in a way that cannot be edited safely.")
    return edited


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(value: str) -> str:
    """A basic string: what JSON escapes is escaped alike in TOML."""
    return json.dumps(value, ensure_ascii=False)
