"""JSON that comes in pieces, told as JSON Patch (RFC 6902): what is there already of an object that is being written.

Each :meth:`PartialObject.feed` costs what it is given, whatever came before, and all patches together are of the order
of the text: a string that grows is told again only once it has grown by a quarter, since RFC 6902 cannot append to it.
Applied one after the other to ``{}``, the patches give the object; at each step, what is there is a beginning of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

State: TypeAlias = Literal["started", "streaming", "done"]
Operation: TypeAlias = dict[str, Any]

LONGEST_POINTER: Final = 256
"""What lies deeper comes whole: each operation names its place."""
MOST_TOLD: Final = 20_000
"""Operations piece by piece. What is open then, and whatever comes below the first level, is told once it is whole."""
DEEPEST: Final = 200
"""As deep as pydantic reads the arguments of a call."""
GROWTH: Final = 1.25
LEAST_GROWTH: Final = 32
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_TEXT: Final = re.compile(r'[^"\\\x00-\x1f]+')
_SCALAR: Final = re.compile(r"[-+.0-9a-zA-Z]*")
_HALF: Final = re.compile("[\ud800-\udfff]")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_ESCAPE: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_BEGUN: Final = re.compile(r"\\(u[0-9a-fA-F]{0,3})?")
_ESCAPED: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}
_Expected: TypeAlias = Literal["value", "value or end", "key", "key or end", "colon", "comma", "nothing"]


class _BrokenError(Exception):
    """The text is no JSON object."""


@dataclass(slots=True)
class _Frame:
    """An object or array that is open. ``key``: the member that is being written. ``told``: whether what it holds is
    told piece by piece, or all of it once it is whole; ``begun``: some of it has been."""

    value: dict[str, Any] | list[Any]
    pointer: str
    told: bool
    begun: bool = False
    key: str = ""

    def place(self) -> str:
        """The pointer of the member that is being written."""
        if isinstance(self.value, list):
            return f"{self.pointer}/{len(self.value)}"
        return f"{self.pointer}/{escaped(self.key)}"

    def put(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value[self.key] = value


@dataclass(slots=True)
class _Text:
    """A string that is open. ``told``: how much of it has been told; -1: nothing, not even that it is there."""

    is_key: bool
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    told: int = -1

    def add(self, piece: str) -> None:
        self.pieces.append(piece)
        self.length += len(piece)

    def whole(self) -> str:
        text = "".join(self.pieces)
        if _HALF.search(text) is not None:
            # Two halves of one character, which together are that character.
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        self.pieces = [text]
        self.length = len(text)
        return text


class PartialObject:
    """``root``: the pointer under which the object's members are told."""

    def __init__(self, root: str = "", most_told: int = MOST_TOLD) -> None:
        self.broken = False
        self.begun = False  # it has a member, or the beginning of one
        self.value: dict[str, Any] = {}
        self._root = root
        self._stack: list[_Frame] = []
        self._expected: _Expected = "value"
        self._text: _Text | None = None
        self._scalar: list[str] = []
        self._rest = ""
        self._told: list[Operation] = []
        self._left = most_told
        self._states: dict[str, State] = {}

    @property
    def whole(self) -> bool:
        return self._expected == "nothing" and not self.broken

    def feed(self, text: str) -> None:
        """Take in what comes next. What follows the end, or what is no JSON, is passed over."""
        if self.broken:
            return
        try:
            self._read(self._rest + text)
        except (_BrokenError, ValueError, UnicodeError):
            self.broken = True

    def patch(self) -> list[Operation]:
        """What has changed since this was asked the last time."""
        if self._text is not None and not self._text.is_key and self._stack[-1].told:
            self._tell_text(self._text)
        told, self._told = self._told, []
        self._left -= len(told)
        if self._left < 0:
            for frame in self._stack[1:]:
                frame.told = False
        return told

    def states(self) -> dict[str, State]:
        """The members whose state has changed since this was asked the last time."""
        states, self._states = self._states, {}
        return states

    def _read(self, text: str) -> None:
        at, end = 0, len(text)
        self._rest = ""
        while at < end:
            if self._text is not None:
                at = self._read_text(self._text, text, at)
                if at < 0:
                    return
                continue
            if self._scalar:
                at = self._read_scalar(text, at)
                continue
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing as well
            if at < end:
                at = self._read_mark(text, at)

    def _read_text(self, open_: _Text, text: str, at: int) -> int:
        """Read on in a string; -1 once the rest has to wait for the next piece."""
        run = _TEXT.match(text, at)
        if run is not None:
            open_.add(run.group())
            self._grow()
            return run.end()
        if text[at] == '"':
            self._text = None
            self._close_text(open_)
            return at + 1
        escape = _ESCAPE.match(text, at)
        if escape is not None:
            said = escape.group()
            open_.add(_ESCAPED[said[1]] if said[1] != "u" else chr(int(f"0x{said[2:]}", base=0)))
            self._grow()
            return escape.end()
        if _BEGUN.fullmatch(text, at) is not None:
            self._rest = text[at:]
            return -1
        raise _BrokenError

    def _read_scalar(self, text: str, at: int) -> int:
        run = _SCALAR.match(text, at)
        end = at if run is None else run.end()
        self._scalar.append(text[at:end])
        if end < len(text):
            said = "".join(self._scalar)
            self._scalar = []
            self._put(_scalar(said))
        return end

    def _read_mark(self, text: str, at: int) -> int:
        mark, expected = text[at], self._expected
        if expected == "nothing":
            return len(text)
        if mark in "}]":
            self._close(mark)
        elif mark == '"' and expected in ("key", "key or end"):
            self._text = _Text(is_key=True)
        elif expected == "colon" and mark == ":":
            self._expected = "value"
        elif expected == "comma" and mark == ",":
            self._expected = "key" if isinstance(self._stack[-1].value, dict) else "value"
        elif expected in ("value", "value or end"):
            return self._begin(mark, text, at)
        else:
            raise _BrokenError
        return at + 1

    def _begin(self, mark: str, text: str, at: int) -> int:
        if not self._stack and mark != "{":
            raise _BrokenError
        self._start()
        if mark in "{[":
            self._open({} if mark == "{" else [])
            return at + 1
        if mark == '"':
            self._text = _Text(is_key=False)
            return at + 1
        run = _SCALAR.match(text, at)
        if run is None or run.end() == at:
            raise _BrokenError
        self._scalar = [""]
        return at

    def _open(self, value: dict[str, Any] | list[Any]) -> None:
        if len(self._stack) >= DEEPEST:
            raise _BrokenError
        self._expected = "key or end" if isinstance(value, dict) else "value or end"
        if not self._stack:
            self.value = value if isinstance(value, dict) else {}
            self._stack.append(_Frame(value, self._root, told=True))
            return
        outer = self._stack[-1]
        pointer = outer.place()
        told = outer.told and len(pointer) <= LONGEST_POINTER and self._left >= 0
        if told:
            self._told.append({"op": "add", "path": pointer, "value": type(value)()})
        self._stack.append(_Frame(value, pointer, told, begun=told))

    def _close(self, mark: str) -> None:
        if not self._stack or self._expected not in ("comma", "key or end", "value or end"):
            raise _BrokenError
        frame = self._stack.pop()
        if (mark == "}") != isinstance(frame.value, dict):
            raise _BrokenError
        if not self._stack:
            self._expected = "nothing"
            return
        if self._stack[-1].told and not frame.told:
            self._told.append({"op": "replace" if frame.begun else "add", "path": frame.pointer, "value": frame.value})
        self._stack[-1].put(frame.value)
        self._expected = "comma"
        self._finish()

    def _close_text(self, open_: _Text) -> None:
        frame = self._stack[-1]
        text = open_.whole()
        if open_.is_key:
            if text == "__proto__" or (text == "prototype" and frame.pointer.endswith("/constructor")):
                raise _BrokenError  # clients refuse patches that lead to what JavaScript has everything inherit from
            frame.key = text
            self._expected = "colon"
            return
        if frame.told and open_.told != open_.length:
            self._told.append({"op": "add" if open_.told < 0 else "replace", "path": frame.place(), "value": text})
        frame.put(text)
        self._expected = "comma"
        self._finish()

    def _put(self, value: Any) -> None:
        frame = self._stack[-1]
        if frame.told:
            self._told.append({"op": "add", "path": frame.place(), "value": value})
        frame.put(value)
        self._expected = "comma"
        self._finish()

    def _tell_text(self, open_: _Text) -> None:
        if open_.told >= 0 and open_.length < open_.told * GROWTH + LEAST_GROWTH:
            return
        text = open_.whole()
        if text and "\ud800" <= text[-1] <= "\udbff":
            text = text[:-1]  # the other half is still to come
        if text and len(text) > open_.told:
            self._told.append(
                {"op": "add" if open_.told < 0 else "replace", "path": self._stack[-1].place(), "value": text}
            )
            open_.told = len(text)

    def _start(self) -> None:
        if len(self._stack) == 1:
            self.begun = True
            self._states[self._stack[0].key] = "started"

    def _grow(self) -> None:
        if self._stack and self._text is not None and not self._text.is_key:
            self._states[self._stack[0].key] = "streaming"

    def _finish(self) -> None:
        if len(self._stack) == 1:
            self._states[self._stack[0].key] = "done"


def escaped(name: str) -> str:
    """A name as a step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _scalar(said: str) -> Any:
    if said in _WORDS:
        return _WORDS[said]
    if _NUMBER.fullmatch(said) is None:
        raise _BrokenError
    value = int(said) if said.lstrip("-").isdigit() else float(said)
    if value in (math.inf, -math.inf):
        raise _BrokenError
    return value
