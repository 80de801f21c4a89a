"""Forms of pages, read and sent as a browser does."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import httpx2

from tests.server.oauth.people import Person


class _Forms(HTMLParser):
    """The fields of each form, by its action, as they would be sent untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, list[str]]] = {}
        self._fields: dict[str, list[str]] = {}
        self._text = self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self._fields = self.forms.setdefault(given.get("action", ""), {})
        elif tag == "textarea":
            self._text = name
            self._fields[name] = [""]
        elif tag == "select":
            self._select = name
        elif tag == "option" and ("selected" in given or self._select not in self._fields):
            self._fields[self._select] = [given["value"]]
        elif tag == "input" and (given.get("type") not in ("checkbox", "radio") or "checked" in given):
            self._fields.setdefault(name, []).append(given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._text = ""

    def handle_data(self, data: str) -> None:
        if self._text:
            self._fields[self._text][0] += data.removeprefix("\n")


def sheet(page: httpx2.Response, action: str = "") -> dict[str, list[str]]:
    """The fields of the form that is sent to ``action``, by default to the page itself."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms[action if action in parser.forms else page.url.path]


async def send(person: Person, page: httpx2.Response, action: str = "", **typed: Any) -> httpx2.Response:
    """Send a form of ``page`` with some fields typed anew; ``None`` unticks. Redirects are not followed."""
    fields = {**sheet(page, action), **typed}
    sent = {name: value for name, value in fields.items() if value is not None}
    headers = {"referer": str(page.url)}
    return await person.browser.post(action or page.url.path, data=sent, headers=headers)
