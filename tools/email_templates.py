"""Texts with ``{{ variables }}``: filling them in, and the two designs that every project has from the first day.

There is no logic in a template: what is written by one person and filled in by another must not be a program. In HTML
values are escaped, and their line breaks kept; in a subject there can be none. Links lead only where mail may lead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from db.errors import AppError, Repair, invalid
from tools.mailboxes import one_line

UNSUBSCRIBE: Final = "unsubscribe_url"
"""Is filled in at delivery, with what lets its reader unsubscribe."""
LONGEST_SUBJECT: Final = 300
_VARIABLE: Final = re.compile(r"\{\{\s*(\w{1,60})\s*\}\}", re.ASCII)
_OPENED: Final = re.compile(r"(?:href|src)\s*=\s*(?:[\"']\s*)?\{\{\s*(\w{1,60})\s*\}\}", re.ASCII | re.IGNORECASE)
_LEADS: Final = re.compile(r"\s*(?:https?://|mailto:|tel:)", re.IGNORECASE)
_DESIGNS: Final = {
    "notice": ("{{ title }}", "{{ title }}\n\n{{ message }}\n", None),
    "action": ("{{ title }}", "{{ title }}\n\n{{ message }}\n\n{{ button }}: {{ url }}\n", "button.html"),
}
"""Subject, text, and the file of what the HTML has below the message."""
DESIGNS: Final = tuple(_DESIGNS)


@dataclass(frozen=True, slots=True)
class Template:
    """A subject with a text, an HTML text or both; all may hold variables."""

    subject: str
    text: str | None
    html: str | None

    @property
    def variables(self) -> list[str]:
        """The names it needs, in the order in which they come."""
        whole = "\n".join(filter(None, (self.subject, self.text, self.html)))
        return [name for name in dict.fromkeys(_VARIABLE.findall(whole)) if name != UNSUBSCRIBE]

    @property
    def _opened(self) -> list[str]:
        """Of its variables, those whose values are addresses that a click opens or a picture comes from."""
        return [name for name in dict.fromkeys(_OPENED.findall(self.html or "")) if name != UNSUBSCRIBE]

    def filled(self, variables: Mapping[str, str]) -> Template:
        """The same with the values in place. Raises ``AppError`` unless exactly its variables are given, and where it
        makes links of them they are addresses."""
        needed = self.variables
        missing = [name for name in needed if name not in variables]
        unknown = [name for name in variables if name not in needed]
        if missing or unknown:
            raise _other_variables(needed, missing, unknown)
        if nowhere := [name for name in self._opened if not _LEADS.match(variables[name])]:
            raise _no_address(nowhere)
        return Template(
            _subject(_put(self.subject, variables)),
            None if self.text is None else _put(self.text, variables),
            None if self.html is None else _put(self.html, {name: _html(text) for name, text in variables.items()}),
        )


@cache
def design(name: str) -> Template | None:
    """One of the designs that every project has."""
    if name not in _DESIGNS:
        return None
    subject, text, more = _DESIGNS[name]
    below = "" if more is None else _read(more)
    return Template(subject, text, _read("frame.html").replace("<!-- more -->\n", below))


def _read(name: str) -> str:
    return files("tools").joinpath("email_designs", name).read_text(encoding="utf-8")


def with_unsubscribe(text: str, url: str) -> str:
    """The text with the address in every place that asks for it."""
    return _VARIABLE.sub(lambda found: url if found[1] == UNSUBSCRIBE else found[0], text)


def _put(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text)


def _html(text: str) -> str:
    return escape(text).replace("\r\n", "\n").replace("\n", "<br>\n")


def _subject(text: str) -> str:
    try:
        return one_line(text)[:LONGEST_SUBJECT]
    except ValueError as error:
        raise invalid(f"The subject {error}.", "Give its variables values of one line.") from None


def _no_address(names: list[str]) -> AppError:
    return invalid(
        f"The template makes a link of {', '.join(names)[:80]}, which is no address that mail may lead to.",
        "Give an address that begins with https://, http://, mailto: or tel:.",
        details={"arguments": [{"do": "change", "at": f"variables.{name}"} for name in names[:5]]},
    )


def _other_variables(needed: list[str], missing: list[str], unknown: list[str]) -> AppError:
    said = [f"needs {', '.join(missing)}"] if missing else []
    said += [f"does not take {', '.join(unknown)[:80]}"] if unknown else []
    repairs: list[Repair] = [{"do": "give", "at": f"variables.{name}"} for name in missing]
    repairs += [{"do": "drop", "at": f"variables.{name}"} for name in unknown]
    return invalid(
        f"The template {' and '.join(said)}.",
        f"Its variables are: {', '.join(needed) or 'none'}.",
        details={"arguments": repairs[:5]},
    )
