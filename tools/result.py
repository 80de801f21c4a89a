"""What a tool answered, on its way to a model: how long it may be, how it is cut, and what its text says.

Lengths are bytes of UTF-8: a token is at least one byte, so these bounds on bytes bound tokens of any text whatever.
A list is cut between rows and a long text between characters; ``next_cursor`` says where to go on, and the text says
with which call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field
from pydantic_core import from_json, to_json

from tools.pages import DEFAULT_ROWS, after_row
from tools.trust import fenced

USUAL_BYTES: Final = 5_000
MOST_BYTES: Final = 25_000
NOTE_BYTES: Final = 300
"""Kept free for the sentence that says how to go on."""

MaxBytes: TypeAlias = Annotated[int, Field(ge=1_000, le=MOST_BYTES, description="Longest answer.")]

CUT: Final = " … [{left} more characters were left out]"
NEXT: Final = "next_cursor"
UNCUT: Final = frozenset({NEXT, "url"})
"""A part of an address or a cursor leads nowhere: these stay whole, whatever else has to go."""


def asked(values: Mapping[str, Any]) -> int:
    """How long the answer to a call with these arguments may be: the usual, unless the caller asked for more."""
    if "max_bytes" in values:
        return int(values["max_bytes"])
    return MOST_BYTES if values.get("limit", 0) > DEFAULT_ROWS else USUAL_BYTES


def fitted(json: bytes, limit: int, paths: tuple[str, ...]) -> bytes:
    """The answer cut to ``limit`` bytes, counted as a model will read it. Almost always the same bytes."""
    room = limit - NOTE_BYTES
    if len(json) <= room and (len(json) <= room // 2 or _length(json, paths) <= room):
        return json
    value = from_json(json)
    rows = _rows(value)
    if rows is not None:
        json = _fewer_rows(value, rows, room, paths)
    while (length := _length(json, paths)) > room:
        value = _shorter(from_json(json), length - room)
        if value is None:
            break
        json = to_json(value)
    return json


def how_to_go_on(value: Mapping[str, Any], tool: str) -> str | None:
    """A sentence for the model when there is more than it got."""
    cursor = value.get(NEXT)
    return f'There is more: call {tool} with cursor="{cursor}".' if isinstance(cursor, str) else None


def _length(json: bytes, paths: tuple[str, ...]) -> int:
    return len(fenced(json, paths).encode()) if paths else len(json)


def _rows(value: Any) -> str | None:
    """The name of the one list of a page; a page has ``next_cursor``, and rows with the ``id`` it pages by."""
    if not isinstance(value, dict) or NEXT not in value:
        return None
    lists: list[str] = [name for name, field in value.items() if isinstance(field, list)]
    if len(lists) != 1 or not all(isinstance(row, dict) and "id" in row for row in value[lists[0]]):
        return None
    return lists[0]


def _fewer_rows(value: dict[str, Any], name: str, room: int, paths: tuple[str, ...]) -> bytes:
    """As many rows as fit, and at least one, which is then cut itself: a page without rows would lead nowhere."""
    rows = value[name]
    low, high = 1, len(rows)
    while low < high:
        middle = (low + high + 1) // 2
        if _length(_first(value, name, middle), paths) <= room:
            low = middle
        else:
            high = middle - 1
    return _first(value, name, low)


def _first(value: dict[str, Any], name: str, count: int) -> bytes:
    rows = value[name][:count]
    if count < len(value[name]):
        value = {**value, NEXT: after_row(rows[-1])}
    return to_json({**value, name: rows})


def _shorter(value: Any, excess: int) -> Any:
    """The value with its longest text cut by about ``excess`` bytes; ``None`` when no text is long enough to matter.

    The net under tools that do not bound what they answer. Those that do never come here.
    """
    longest: tuple[int, tuple[Any, ...]] = (len(CUT) * 2, ())
    places: list[tuple[Any, tuple[Any, ...]]] = [(value, ())]
    while places:
        one, path = places.pop()
        if isinstance(one, str):
            longest = max(longest, (len(to_json(one)), path), key=lambda found: found[0])
        elif isinstance(one, dict):
            places += [(inner, (*path, key)) for key, inner in one.items() if key not in UNCUT]
        elif isinstance(one, list):
            places += [(inner, (*path, index)) for index, inner in enumerate(one)]
    if not longest[1]:
        return None
    *way, last = longest[1]
    holder = value
    for step in way:
        holder = holder[step]
    text: str = holder[last]
    wanted = max(longest[0] - excess - len(CUT) * 2, 0)
    kept = len(text) * wanted // longest[0]
    holder[last] = text[:kept] + CUT.format(left=len(text) - kept)
    return value
