"""What takes a mail to where it goes, and the ways in which that can end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

from server.mail.message import Message

LONGEST_DETAIL: Final = 300

Leaving: TypeAlias = Callable[[], Awaitable[None]]
"""Writes down that the mail is about to leave, and returns once that is committed. Raises when it must not leave."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Taken over by the provider. ``refused``: recipients the other server would not take, and its words."""

    provider_id: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """It will never be taken as it is; the words say why."""


class DeferredError(Exception):
    """It may be taken later. ``after``: not before so many seconds. ``perhaps``: it may have been taken already, which
    nobody can tell, so the next attempt must be one that cannot send it twice."""

    def __init__(self, detail: str, *, after: float | None = None, perhaps: bool = False) -> None:
        super().__init__(detail)
        self.after = after
        self.perhaps = perhaps


class UnconfirmedError(Exception):
    """It was handed over, the answer was lost, and another attempt could send it twice."""


class Carrier(Protocol):
    """``route``: by what and as whom, the same as long as both are. ``repeats``: for how long after it was handed over
    first a mail may be handed over again without being sent twice."""

    @property
    def route(self) -> str: ...

    @property
    def repeats(self) -> timedelta: ...

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        """Hand the mail over, with ``leaving`` right before it could be on its way. Raises the errors above."""
        ...


def said(code: object, words: str) -> str:
    """What another server answered, short and in one line."""
    return f"{code} {' '.join(words.split())}"[:LONGEST_DETAIL]
