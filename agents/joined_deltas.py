"""Joins the small pieces of a model's stream before its SDK makes objects of them, which costs far more than they do.

Joined are consecutive server-sent events that say nothing but a further piece of the same text, reasoning or
arguments, of chat completions and of the Responses API. Everything else, and every doubt, passes as the very bytes that
came: role, finish reason, usage and calls stay where they were, and so does text with ``<`` or ``>``, for a tag such as
``<think>`` means something to an SDK only as a piece of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

LONGEST_PIECE: Final = 64 * 1024
"""Of an event that has not ended yet, in bytes: a longer one is passed on as it comes."""
AT_ONCE: Final = 32 * 1024
"""Bytes that are joined in one go: 5 ms."""
LONGEST_JOINED: Final = 4096
"""Characters: whoever hears a longer piece lets nobody else do anything meanwhile."""
TEXTS: Final = frozenset({"content", "reasoning", "reasoning_content"})
DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
    }
)
PLACE: Final = ("type", "item_id", "output_index", "content_index", "summary_index")
END: Final = b"\n\n"
MARK: Final = b"\xef\xbb\xbf"
"""A byte order mark, of which one may begin a stream of events (WHATWG HTML, 9.2.6); the SDKs take it for text."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """``of``: what it is a piece of; ``holder[name]`` is where ``event`` has its text."""

    of: tuple[object, ...]
    event: dict[str, Any]
    holder: dict[str, Any]
    name: str


async def fed(joiner: Joiner, data: bytes) -> bytes:
    """As :meth:`Joiner.feed`, so that others get their turn meanwhile."""
    if len(data) <= AT_ONCE:
        return joiner.feed(data)
    passed = []
    for at in range(0, len(data), AT_ONCE):
        passed.append(joiner.feed(data[at : at + AT_ONCE]))
        await asyncio.sleep(0)
    return b"".join(passed)


class Joiner:
    """One a stream. ``flowing``: whether the last bytes held pieces and nothing else, so that more will follow."""

    def __init__(self) -> None:
        self.flowing = False
        self._rest = b""
        self._as_it_comes = False
        self._begins = True

    def feed(self, data: bytes) -> bytes:
        """What to pass on of ``data``; an event that has not ended waits for its end."""
        if self._begins and not MARK.startswith(start := self._rest + data):
            self._begins, self._rest, data = False, b"", start.removeprefix(MARK)
        if self._as_it_comes or b"\r" in data:
            return self._give_up(data)
        whole, end, rest = (self._rest + data).rpartition(END)
        if len(rest) > LONGEST_PIECE:
            return self._give_up(data)
        self._rest = rest
        self.flowing = bool(end)
        return b"".join(self._joined(whole.split(END))) if end else b""

    def end(self) -> bytes:
        """What is left when the stream ends."""
        rest, self._rest = self._rest, b""
        return rest

    def _give_up(self, data: bytes) -> bytes:
        self._as_it_comes, self.flowing = True, False
        return self.end() + data

    def _joined(self, frames: list[bytes]) -> list[bytes]:
        joined: list[bytes] = []
        first: _Piece | None = None
        texts: list[str] = []
        room = 0
        head = alone = b""
        for frame in frames:
            before, _, line = frame.rpartition(b"\n")
            piece = _piece(line)
            if piece is None:
                self.flowing = False
            elif first is not None and piece.of == first.of and before == head and room > 0:
                texts.append(piece.holder[piece.name])
                room -= len(texts[-1])
                continue
            joined += _written(head, first, texts, alone)
            if piece is None:
                joined += (frame, END)
                first = None
            else:
                first, texts, head, alone = piece, [piece.holder[piece.name]], before, frame
                room = LONGEST_JOINED - len(texts[0])
        return joined + _written(head, first, texts, alone)


def _written(head: bytes, piece: _Piece | None, texts: list[str], alone: bytes) -> list[bytes]:
    if piece is None:
        return []
    if len(texts) == 1:
        return [alone, END]
    piece.holder[piece.name] = "".join(texts)
    return [head, b"\n" if head else b"", b"data: ", to_json(piece.event), END]


def _piece(line: bytes) -> _Piece | None:
    """What the last line of an event says, if that is a piece and nothing else."""
    if not line.startswith(b"data: {"):
        return None
    try:
        event = from_json(line[6:], allow_inf_nan=False)
    except ValueError:
        return None
    kind = event.get("type")
    found = _of_responses(event) if isinstance(kind, str) and kind in DELTAS else _of_chat(event)
    text = None if found is None else found.holder[found.name]
    return found if isinstance(text, str) and text and "<" not in text and ">" not in text else None


def _of_responses(event: dict[str, Any]) -> _Piece | None:
    of = tuple(event.get(name) for name in PLACE)
    return None if event.get("logprobs") or "delta" not in event else _Piece(of, event, event, "delta")


def _of_chat(event: dict[str, Any]) -> _Piece | None:
    choices = event.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or event.get("usage") or event.get("error"):
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("logprobs"):
        return None
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return None
    said = [name for name, value in delta.items() if value is not None and name != "role"]
    if len(said) != 1:
        return None
    of = (event.get("id"), event.get("model"), choice.get("index"))
    if said[0] in TEXTS:
        return _Piece((*of, said[0]), event, delta, said[0])
    return _of_call(of, event, delta["tool_calls"]) if said[0] == "tool_calls" else None


def _of_call(of: tuple[Any, ...], event: dict[str, Any], calls: Any) -> _Piece | None:
    """A piece of the arguments of a call that has begun already."""
    if not isinstance(calls, list) or len(calls) != 1 or not isinstance(calls[0], dict):
        return None
    call = calls[0]
    function = call.get("function")
    if call.get("id") or not isinstance(function, dict) or function.get("name") or "arguments" not in function:
        return None
    return _Piece((*of, "call", call.get("index")), event, function, "arguments")
