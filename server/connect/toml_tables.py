"""Edits of Codex's ``config.toml``: one table is put in at the end and taken out again; nothing else is written anew.

Each edit is parsed again before it counts, and must say what the file said before, but for that one table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from server.connect.faults import Malformed

SERVERS: Final = "mcp_servers"
UNSAFE: Final = "The file is written in a way that cannot be edited safely."
_HEADER: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def get(text: str, name: str) -> Any:
    """The table of the server ``name``; ``None`` where there is none. Raises :class:`Malformed`."""
    servers = _parse(text).get(SERVERS, {})
    if not isinstance(servers, dict):
        raise Malformed(f"{SERVERS} is no table.")
    return servers.get(name)


def add(text: str, name: str, fields: Mapping[str, str | list[str]]) -> tuple[str, str]:
    """The text with the table, and what was put in."""
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else newline if text.endswith("\n") else newline * 2
    lines = [f"[{SERVERS}.{_key(name)}]", *(f"{key} = {_string(value)}" for key, value in fields.items())]
    put_in = gap + newline.join(lines) + newline
    rest, edited = _rest(text, name), text + put_in
    try:
        if get(edited, name) == dict(fields) and _rest(edited, name) == rest:
            return edited, put_in
    except Malformed:
        pass
    raise Malformed(UNSAFE)


def remove(text: str, name: str, put_in: str | None) -> str:
    """The text without the table and the tables in it. ``put_in``: what :func:`add` said, if it is known."""
    if get(text, name) is None:
        return text
    rest = _rest(text, name)
    ways = [text.replace(put_in, "")] if put_in and text.count(put_in) == 1 else []
    for edited in (*ways, *_cuts(text, name, "" if put_in is None else put_in[: put_in.index("[")])):
        try:
            if get(edited, name) is None and _rest(edited, name) == rest:
                return edited
        except Malformed:
            continue
    raise Malformed(UNSAFE)


def _rest(text: str, name: str) -> str:
    """What is said beside the table, spelled: a NaN is not equal to itself."""
    said = _parse(text)
    said.get(SERVERS, {}).pop(name, None)
    if not said.get(SERVERS):
        said.pop(SERVERS, None)
    return repr(said)


def _cuts(text: str, name: str, gap: str) -> Iterator[str]:
    """The text without every section of the table, and without each one alone, should others only look like it. A
    section goes from its header, with the ``gap`` before it, to its last line that says something."""
    either = "|".join({re.escape(name), re.escape(json.dumps(name)), re.escape(f"'{name}'")})
    ours = re.compile(rf"[ \t]*\[[ \t]*{SERVERS}[ \t]*\.[ \t]*(?:{either})[ \t]*(?:\.[^\]\n]*)?\]")
    starts = [found.start() for found in _HEADER.finditer(text)]
    sections = [
        (start - len(gap) if text.endswith(gap, 0, start) else start, start + _length(text[start:end]))
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True)
        if ours.match(text, start)
    ]
    whole = text
    for start, end in reversed(sections):
        whole = whole[:start] + whole[end:]
    yield whole
    for start, end in sections:
        yield text[:start] + text[end:]


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


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(value: str | list[str]) -> str:
    """A basic string, or an array of them: what JSON escapes is escaped alike in TOML."""
    return json.dumps(value, ensure_ascii=False)
