"""Who mail goes to: ``Ada <ada@example.org>`` or the address alone, checked, and in one form for all that follows.

No text that can end a header line or turn the direction of writing around gets through, so what a person is shown is
what the mail says. Domains may be international (RFC 5891); what goes on the wire is their ASCII form.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Annotated, Final, Self, TypeAlias

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator

LONGEST: Final = 400
"""Characters of a mailbox as it is given; of its address, at most 254 (RFC 5321, 4.5.3.1.3, with its errata)."""
LONGEST_NAME: Final = 120
_TURNS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    """The text, if it may stand in a header. Raises ``ValueError``."""
    text = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") or one in _TURNS for one in text):
        raise ValueError("must be one line, without control characters")
    return text


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``address``: in ASCII, its domain in small letters. ``name``: what people call whom it reaches, or empty."""

    address: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``ValueError`` that says what is wrong."""
        if len(text) > LONGEST:
            raise ValueError(f"has more than {LONGEST} characters")
        text, name = one_line(text).strip(), ""
        if text.endswith(">"):
            before, _, text = text[:-1].rpartition("<")
            name = _name(before)
        try:
            found = validate_email(
                text, check_deliverability=False, allow_smtputf8=False, test_environment=True, strict=True
            )
        except EmailNotValidError as error:
            raise ValueError(f"is no address that mail can be sent to: {str(error).rstrip('.')}") from None
        return cls(str(found.ascii_email), name)

    @classmethod
    def written(cls, text: str) -> Self:
        """Of a text that was checked before, or that the operator wrote: its host need not be one that all know."""
        before, opening, address = text.strip().rpartition("<")
        return cls(address.rstrip("> ").strip(), _name(before)) if opening else cls(address)

    @property
    def key(self) -> str:
        """What two spellings of one address have in common."""
        return self.address.lower()

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def __str__(self) -> str:
        """The form that :meth:`parse` reads back, and people read."""
        if not self.name:
            return self.address
        if all(one.isalnum() or one in " '-_" for one in self.name):
            return f"{self.name} <{self.address}>"
        escaped = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}" <{self.address}>'


def _name(text: str) -> str:
    name = text.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if "<" in name or ">" in name:
        raise ValueError("is more than one address: give each by itself")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"has a name of more than {LONGEST_NAME} characters")
    return name.strip()


def _written(text: str) -> str:
    return str(Mailbox.parse(text))


Written: TypeAlias = Annotated[str, AfterValidator(_written)]
"""A mailbox as an argument: in the form that all others compare it in."""
