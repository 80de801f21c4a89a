"""Edits of JSON with comments that leave everything else as it stands: comments, order, indentation, line ends.

Editors' configuration files are JSONC (comments, commas before a closing bracket). A member is put in and taken out by
cutting text at the places that a scan has found, never by writing a parsed document anew, and each edit is scanned
again before it counts: ``remove(add(text))`` is ``text``, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from server.connect.faults import Malformed
from server.connect.jsonc_scan import BOM, WHITE, Value, scan, wrong


@dataclass(frozen=True, slots=True)
class Mark:
    """What :func:`add` put around the member, so that it can be taken out exactly.

    ``depth``: of the path, where the member stands that was put in (its value holds the rest of the path);
    ``comma``: whether the value before got one; ``blank``: the text, when there was no document in it.
    """

    depth: int
    lead: str
    tail: str
    comma: bool
    blank: str | None = None


def get(text: str, path: Sequence[str]) -> Any:
    """The value at ``path``; ``None`` where there is none."""
    if _is_blank(text):
        return None
    found = _walk(text, scan(text), path)
    return found[-1].value if len(found) == len(path) + 1 else None


def add(text: str, path: Sequence[str], value: Any) -> tuple[str, Mark]:
    """Put ``value`` in at ``path``, where nothing is; objects on the way are made. Raises :class:`Malformed`."""
    blank = text if _is_blank(text) else None
    if blank is not None:
        text = "{}\n"
    found = _walk(text, scan(text), path)
    depth = len(found) - 1
    if depth == len(path):
        raise ValueError("something is there")
    for key in reversed(path[depth + 1 :]):
        value = {key: value}
    edited, lead, tail, comma = _insert(text, found[-1], path[depth], value)
    _check(edited, text, path[: depth + 1], value)
    return edited, Mark(depth, lead, tail, comma, blank)


def replace(text: str, path: Sequence[str], value: Any) -> str:
    """Put ``value`` in the place of what is at ``path``."""
    found = _walk(text, scan(text), path)
    held, old = found[-2], found[-1]
    newline, unit = _style(text)
    member = next(member for member in held.members or () if member.value is old)
    indent = _indent(text, member.start)
    spelled = _spelled(value, None if indent is None else unit).replace("\n", newline + (indent or ""))
    edited = text[: old.start] + spelled + text[old.end :]
    _check(edited, text, path, value)
    return edited


def remove(text: str, path: Sequence[str], mark: Mark | None) -> str:
    """Take out what is at ``path``, with the object around it if ``mark`` says that this was made for it and nothing
    else is in it now. Without a mark, or where the text has changed since, what remains is well-formed all the same."""
    found = _walk(text, scan(text), path)
    if len(found) <= len(path):
        return text
    depth = len(path) - 1
    while mark is not None and depth > mark.depth and len(found[depth].members or ()) == 1:
        depth -= 1
    used = mark if mark is not None and mark.depth == depth else None
    for edited in _cuts(text, found[depth], path[depth], used):
        try:
            _check(edited, text, path[: depth + 1], None)
        except Malformed:
            continue
        emptied = used is not None and used.blank is not None and not scan(edited).members
        return used.blank if emptied and used is not None and used.blank is not None else edited
    raise Malformed("The entry cannot be taken out without touching what is around it.")


def _insert(text: str, held: Value, key: str, value: Any) -> tuple[str, str, str, bool]:
    members = held.members or ()
    newline, unit = _style(text)
    close = held.end - 1
    at = held.start + 1 + len(text[held.start + 1 : close].rstrip(WHITE))
    own = _indent(text, members[0].start) if members else None
    if own is None:
        own = _line_indent(text, held.start) + unit
    if members and "\n" not in text[held.start : held.end]:
        lead, tail = " ", ""
        spelled = _member(key, value, None)
    else:
        lead = newline + own
        tail = "" if "\n" in text[at:close] else newline + _line_indent(text, held.start)
        spelled = _member(key, value, unit).replace("\n", newline + own)
    comma = bool(members) and members[-1].comma is None
    before = text[: members[-1].value.end] + "," + text[members[-1].value.end : at] if comma else text[:at]
    return before + lead + spelled + tail + text[at:], lead, tail, comma


def _cuts(text: str, held: Value, key: str, mark: Mark | None) -> Iterator[str]:
    """Ways to take ``key`` out of ``held``, the best first."""
    members = held.members or ()
    index = next(place for place, member in enumerate(members) if member.key == key)
    member = members[index]
    starts = [len(text[: member.start].rstrip(WHITE)), member.start]
    if mark is not None and text.endswith(mark.lead, 0, member.start):
        starts.insert(0, member.start - len(mark.lead))
    for start in starts:
        head, rest = text[:start], text[member.value.end :]
        if member.comma is not None:
            between = text[member.value.end : member.comma]
            rest = (between if between.strip(WHITE) else "") + text[member.comma + 1 :]
        elif index and (mark is None or mark.comma):
            before = members[index - 1].comma
            if before is not None:
                head = text[:before] + text[before + 1 : start]
        if mark is not None and index == len(members) - 1 and rest.startswith(mark.tail):
            rest = rest[len(mark.tail) :]
        yield head + rest


def _check(edited: str, text: str, path: Sequence[str], value: Any) -> None:
    """Raises :class:`Malformed` unless ``edited`` is ``text`` but for ``value`` (``None``: nothing) at ``path``."""
    wanted = scan(text).value
    held = wanted
    for key in path[:-1]:
        held = held[key]
    if value is None:
        held.pop(path[-1], None)
    else:
        held[path[-1]] = value
    if scan(edited).value != wanted:
        raise Malformed("The file is written in a way that cannot be edited safely.")


def _walk(text: str, root: Value, path: Sequence[str]) -> list[Value]:
    """The values from the document down ``path``, as far as they are there."""
    found = [root]
    for key in path:
        held = found[-1]
        if held.members is None:
            raise wrong(text, held.start, "an object was expected here")
        same = [member for member in held.members if member.key == key]
        if len(same) > 1:
            raise wrong(text, same[1].start, f'"{key}" is there twice')
        if not same:
            return found
        found.append(same[0].value)
    return found


def _style(text: str) -> tuple[str, str]:
    """The line end of ``text``, and what its outermost members are indented with."""
    newline = "\r\n" if "\r\n" in text else "\n"
    members = scan(text).members
    return newline, (_indent(text, members[0].start) if members else None) or "  "


def _indent(text: str, at: int) -> str | None:
    """The white space before ``at``, if it begins a line."""
    line = text.rfind("\n", 0, at) + 1
    white = text[line:at]
    return white if line and not white.strip(" \t") else None


def _line_indent(text: str, at: int) -> str:
    """The white space that begins the line of ``at``."""
    line = text[text.rfind("\n", 0, at) + 1 : at].removeprefix(BOM)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _member(key: str, value: Any, unit: str | None) -> str:
    return f"{json.dumps(key, ensure_ascii=False)}: {_spelled(value, unit)}"


def _spelled(value: Any, unit: str | None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=unit)


def _is_blank(text: str) -> bool:
    return not text.removeprefix(BOM).strip(WHITE)
