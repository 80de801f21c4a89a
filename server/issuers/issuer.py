"""With whom people sign in elsewhere: what every kind of issuer does for us, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from db.errors import AppError
from db.identities import TokenKind, Vouched
from tools.mailboxes import Mailbox

CALLBACK: Final = "/api/auth/callback"
_CODE: Final = re.compile(r"[a-z0-9_]{1,60}")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an issuer and back. ``consent``: it has to ask the person, so that it gives a token to keep."""

    state: str
    nonce: str
    verifier: str
    callback: str
    consent: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """What an issuer is asked with later whether an account still is one."""

    kind: TokenKind
    value: str


@dataclass(frozen=True, slots=True)
class Arrival:
    vouched: Vouched
    token: Token | None


class RefusedError(Exception):
    """The issuer does not stand for the account any more: it is closed, or has taken its permission back."""


class Issuer(Protocol):
    """``id``: in the callback; ``title``: on the button; ``issuer``: what its accounts are known by, with their
    subjects."""

    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def issuer(self) -> str: ...

    async def leave(self, way: Way) -> str:
        """Where to send the browser. Raises ``AppError``."""
        ...

    async def arrive(self, way: Way, answer: Mapping[str, str]) -> Arrival:
        """Who it is that came back with ``answer``, the query of the callback. Raises ``AppError``."""
        ...

    async def keeps(self) -> bool:
        """Whether it gives a token to keep once the person has consented to that."""
        ...

    async def recheck(self, subject: str, token: Token) -> Token:
        """Ask whether the account still is one; what to ask with the next time. Raises :class:`RefusedError` for no,
        and ``AppError`` (retryable) when there is no answer to be had."""
        ...

    async def probe(self) -> None:
        """Raises ``AppError`` unless it answers as it should."""
        ...


def addresses(given: Iterable[object]) -> tuple[str, ...]:
    """In the form in which accounts are known, each once; what is no address of a mailbox is left out."""
    found = []
    for one in given:
        try:
            found.append(Mailbox.parse(str(one)).key)
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))


def unreachable(title: str) -> AppError:
    return AppError(
        "issuer_unreachable",
        503,
        f"{title} does not answer.",
        "Try again in a moment, or sign in another way.",
        retryable=True,
    )


def wrong_answer(title: str, why: str) -> AppError:
    """``why``: of our own words, since it is shown."""
    return AppError(
        "issuer_answer_wrong",
        502,
        f"What came back from {title} cannot be used: {why}.",
        "Sign in again from the sign-in page. If it stays so, tell whoever runs this server.",
    )


def not_set_up(title: str, error: str) -> AppError:
    """``error``: the code of the issuer's answer, as far as it is one."""
    return AppError(
        "issuer_refused",
        502,
        f"{title} refused to let this server ask ({error}).",
        "Sign in another way, and tell whoever runs this server: its client id, secret or callback there may be wrong.",
    )


def code_of(error: object) -> str:
    """An error code (RFC 6749) as it may be shown: nobody's prose."""
    text = str(error or "")
    return text if _CODE.fullmatch(text) else "error"


def name_of(person: Mapping[str, object]) -> str:
    """What somebody is called, on one line."""
    name = person.get("name")
    return "".join(filter(str.isprintable, " ".join(name.split())))[:200] if isinstance(name, str) else ""
