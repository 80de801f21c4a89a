"""The text of an HTML mail, for those who read mail without HTML, and for models."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Final

_UNSEEN: Final = frozenset({"head", "style", "script", "title", "template", "noscript"})
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "div", "dl", "fieldset", "figure", "footer", "form", "header"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "ul"),
    }
)
_LINES: Final = frozenset({"br", "dd", "dt", "li", "tr"})
_BEGUN: Final = re.compile(r"<[A-Za-z/!?]")
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")
_INVISIBLE: Final = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|mso-hide\s*:\s*all)", re.IGNORECASE)
_VOID: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})


def plain_text(html: str) -> str:
    """What a reader of ``html`` sees, as text: paragraphs apart, lists with dashes, links with their addresses.

    It takes as long as ``html`` is, whatever that holds.
    """
    reader = _Reader()
    reader.feed(_closed(html))
    reader.close()
    return reader.text()


def _closed(html: str) -> str:
    """The same without what begins and does not end, which a browser leaves out too: the parser would look for the end
    of each such beginning in all that follows. Sections, which HTML does not have, are what it makes of them: comments.
    """
    html = html.replace("<![", "<!")
    cut = html.find("<!--", html.rfind("-->") + 1)
    html = html if cut < 0 else html[:cut]
    begun = _BEGUN.search(html, html.rfind(">") + 1)
    return html if begun is None else html[: begun.start()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._hidden: list[str] = []
        self._number_hidden: Counter[str] = Counter()
        self._links: list[tuple[str, int]] = []
        self._kept = 0
        """How deep inside of ``pre``, where lines are kept."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "body":
            self._hidden.clear()  # the end of the head may be left out
            self._number_hidden.clear()
        unseen = tag in _UNSEEN or "hidden" in given or _INVISIBLE.search(given.get("style") or "")
        if self._hidden or unseen:
            if tag not in _VOID:
                self._hidden.append(tag)
                self._number_hidden[tag] += 1
            return
        self._open(tag, given)

    def _open(self, tag: str, given: dict[str, str | None]) -> None:
        if tag in _BLOCKS:
            self._out.append("\n\n")
        elif tag in _LINES:
            self._out.append("\n")
        if tag == "li":
            self._out.append("- ")
        elif tag in ("td", "th"):
            self._out.append(" ")
        elif tag == "img" and given.get("alt"):
            self._out.append(str(given["alt"]))
        elif tag == "a":
            if self._links:
                self._close_link()  # a link has none in it
            self._links.append((given.get("href") or "", len(self._out)))
        elif tag == "pre":
            self._kept += 1

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            while self._number_hidden[tag]:
                ended = self._hidden.pop()
                self._number_hidden[ended] -= 1
                if ended == tag:
                    break
            return
        if tag == "a" and self._links:
            self._close_link()
        elif tag == "pre" and self._kept:
            self._kept -= 1
        if tag in _BLOCKS:
            self._out.append("\n\n")

    def _close_link(self) -> None:
        address, since = self._links.pop()
        said = "".join(self._out[since:]).strip()
        address = address.strip()
        if address and not address.startswith("#") and address.removeprefix("mailto:") != said:
            self._out.append(f" ({address})" if said else address)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._out.append(data if self._kept else _SPACE.sub(" ", data))

    def text(self) -> str:
        joined = "".join(self._out).replace("\u00a0", " ")
        lines = [_SPACE.sub(" ", line).strip() if line.strip() else "" for line in joined.split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
