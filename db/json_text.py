"""JSON text (RFC 8259) that comes in pieces, passed on so that it can be made whole at any time.

What a model writes as the arguments of a call may break off, or be no JSON at all, and is told to clients while it
comes. They are told as much of it as is a beginning of JSON, and at the end what closes that.
"""

from __future__ import annotations

import re
from typing import Final

from pydantic_core import from_json

DEEPEST: Final = 200
"""As deep as arguments are read."""
LONGEST_NUMBER: Final = 4300
"""Digits that Python reads."""
ALWAYS: Final = 256
"""Characters held back up to which each piece has them read again; beyond, a quarter more of them."""
_SPACE: Final = r"[ \t\n\r]*+"
_CHARACTERS: Final = r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'
_KEY: Final = rf'"{_CHARACTERS}"{_SPACE}:{_SPACE}'
_SCALAR: Final = r"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null)(?=[ \t\n\r,}\]])"
_VALUE: Final = rf'(?P<value>["{{\[]|{_SCALAR})'
_TEXT: Final = re.compile(_CHARACTERS)
_FIRST: Final = {
    "": re.compile(rf"{_SPACE}{_VALUE}"),
    "}": re.compile(rf"{_SPACE}(?:{_KEY}{_VALUE}|(?P<end>\}}))"),
    "]": re.compile(rf"{_SPACE}(?:{_VALUE}|(?P<end>\]))"),
}
_NEXT: Final = {
    "": re.compile(r"(?P<space>[ \t\n\r]++)"),
    "}": re.compile(rf"{_SPACE}(?:,{_SPACE}{_KEY}{_VALUE}|(?P<end>\}}))"),
    "]": re.compile(rf"{_SPACE}(?:,{_SPACE}{_VALUE}|(?P<end>\]))"),
}


class JsonText:
    """One text. What has been passed on of it, with :meth:`close` behind, is JSON, or nothing."""

    def __init__(self) -> None:
        self._held = ""
        self._read_again = 0
        self._closers: list[str] = []
        self._places = _FIRST
        self._in_text = False
        self._broken = False

    def feed(self, text: str) -> str:
        """What to pass on; the rest waits for what comes next."""
        self._held += text
        if self._broken or len(self._held) < self._read_again:
            return ""
        at = self._read(self._held)
        passed, self._held = self._held[:at], self._held[at:]
        self._read_again = 0 if len(self._held) < ALWAYS else len(self._held) * 5 // 4
        return passed

    def close(self) -> str:
        """What is still to be passed on at the end."""
        self._read_again = 0
        # A number ends only with what follows it.
        rest = self.feed("" if self._closers or self._in_text else " ").removesuffix(" ")
        closing = '"' if self._in_text else ""
        return rest + closing + "".join(reversed(self._closers))

    def _read(self, text: str) -> int:
        """How far it can be passed on."""
        at = 0
        while at < len(text) and not self._broken:
            end = self._read_text(text, at) if self._in_text else self._read_value(text, at)
            if end == at:
                break
            at = end
        return at

    def _read_text(self, text: str, at: int) -> int:
        run = _TEXT.match(text, at)
        end = at if run is None else run.end()
        if text[end : end + 1] == '"':
            self._in_text, self._places = False, _NEXT
            end += 1
        return end

    def _read_value(self, text: str, at: int) -> int:
        found = self._places[self._closers[-1] if self._closers else ""].match(text, at)
        if found is None:
            return at
        said = found.groupdict()
        if said.get("end"):
            self._closers.pop()
        elif value := said.get("value"):
            if len(value) > LONGEST_NUMBER or (value in "{[" and len(self._closers) >= DEEPEST):
                self._broken = True
                return at
            self._open(value)
            return found.end()
        self._places = _NEXT
        return found.end()

    def _open(self, value: str) -> None:
        self._in_text = value == '"'
        if value in "{[":
            self._closers.append("}" if value == "{" else "]")
        self._places = _FIRST if value in "{[" else _NEXT


def whole(text: str) -> str:
    """The same text if it is JSON, else as much of it as is a beginning of JSON, closed."""
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError:
        read = JsonText()
        return read.feed(text) + read.close()
    return text
