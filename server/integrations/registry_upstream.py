"""Somebody else's registry, as a sync reads it: its catalogue, then one item after another, through the guarded client.

``manifest``: a built registry.json; an item whose contents it does not have stands beside it as ``{name}.json``.
``files``: a repository at a forge's raw address, with a registry.json as the shadcn CLI builds from: it may ``include``
further ones, and the files of its items are read from where their paths say.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

from db.errors import AppError
from tools.component_faults import At, Fault, FaultsError
from tools.component_item import META, MOST_FILE, MOST_FILES, MOST_ITEM
from tools.component_paths import path_fault

if TYPE_CHECKING:
    from tools.outside import Answered, Outside

CATALOGUE: Final = "registry.json"
MOST_CATALOGUE: Final = 8 << 20
MOST_ENTRIES: Final = 5_000
MOST_INCLUDES: Final = 200
SECONDS: Final = 30.0
TRIES: Final = 3
WAIT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of the catalogue. ``folder``: where its files are, relative to the source; empty or ending in ``/``."""

    name: str
    item: Mapping[str, Any]
    folder: str = ""

    @property
    def hash(self) -> str | None:
        """What it says of its own content, when it comes from another Innkeeper."""
        meta = self.item.get("meta")
        ours = meta.get(META) if isinstance(meta, dict) else None
        found = ours.get("hash") if isinstance(ours, dict) else None
        return found if isinstance(found, str) else None


class Upstream:
    def __init__(self, outside: Outside, url: str, kind: str) -> None:
        self._outside = outside
        self._files = kind == "files"
        self._base = url if url.endswith("/") or not self._files else f"{url}/"

    def own(self, names: Collection[str], address: str) -> str | None:
        """The item of this very source behind an address, if it is one."""
        if not address.endswith(".json") or not address.startswith(("http://", "https://")):
            return None
        name = urlsplit(address).path.rpartition("/")[2].removesuffix(".json")
        return name if name in names and address == self._beside(name) else None

    async def entries(self) -> list[Entry]:
        """The catalogue. Raises ``FaultsError`` for one that is none, ``AppError`` when it cannot be had."""
        if not self._files:
            return _unique(_items(await self._json(self._base, MOST_CATALOGUE), ()), ())
        found: list[Entry] = []
        waiting, seen = [CATALOGUE], {CATALOGUE}
        while waiting:
            path = waiting.pop(0)
            document = await self._json(urljoin(self._base, quote(path)), MOST_CATALOGUE)
            folder = path.rpartition("/")[0]
            folder = f"{folder}/" if folder else ""
            found += [Entry(one.name, one.item, folder) for one in _items(document, (path,))]
            further = [f"{folder}{one}" for one in _includes(document, path)]
            waiting += [one for one in further if one not in seen]
            seen |= set(further)
            if len(seen) > MOST_INCLUDES:
                raise FaultsError([Fault((path, "include"), f"leads to more than {MOST_INCLUDES} catalogues")])
        return _unique(found, (CATALOGUE,))

    async def item(self, entry: Entry) -> dict[str, Any]:
        """An item with the contents of its files."""
        files = entry.item.get("files")
        if not isinstance(files, list) or all(isinstance(one, dict) and "content" in one for one in files):
            return dict(entry.item)
        if not self._files:
            found = await self._json(self._beside(entry.name), MOST_FILES + MOST_ITEM + (1 << 20))
            if not isinstance(found, dict) or found.get("name") != entry.name:
                raise FaultsError([Fault((), "is not what the catalogue says at its address")])
            return found
        item = {**entry.item, "files": [await self._file(entry, at, one) for at, one in enumerate(files)]}
        if sum(len(one["content"]) for one in item["files"]) > MOST_FILES:
            raise FaultsError([Fault(("files",), f"must have at most {MOST_FILES} bytes of content together")])
        return item

    async def _file(self, entry: Entry, index: int, file: Any) -> dict[str, Any]:
        at: At = ("files", index, "path")
        path = file.get("path") if isinstance(file, dict) else None
        if not isinstance(path, str):
            raise FaultsError([Fault(at, "is missing")])
        if (says := path_fault(path)) is not None:
            raise FaultsError([Fault(at, says)])
        answered = await self._get(urljoin(self._base, quote(f"{entry.folder}{path}")), MOST_FILE + 1)
        try:
            return {**file, "path": f"{entry.folder}{path}", "content": answered.body.decode()}
        except UnicodeDecodeError:
            raise FaultsError([Fault(at, "leads to something that is no text")]) from None

    def _beside(self, name: str) -> str:
        return urljoin(self._base, f"{quote(name, safe='')}.json")

    async def _json(self, url: str, most: int) -> Any:
        answered = await self._get(url, most)
        try:
            return json.loads(answered.body)
        except (ValueError, RecursionError):
            raise FaultsError([Fault((), f"{_path(url)} is no JSON")]) from None

    async def _get(self, url: str, most: int) -> Answered:
        """The answer, if it is one: a source that has a weak moment is asked again."""
        for number in range(1, TRIES + 1):
            try:
                answered = await self._outside.request("GET", url, max_bytes=most, seconds=SECONDS)
                if answered.status == 200:
                    return answered
                failed = _refused(url, answered.status)
            except AppError as error:
                failed = error
            if not failed.retryable or number == TRIES:
                raise failed
            await asyncio.sleep(WAIT * number)
        raise AssertionError("every turn of the loop returns or raises")


def _items(document: Any, at: At) -> list[Entry]:
    items = document.get("items", [] if document.get("include") else None) if isinstance(document, dict) else document
    if not isinstance(items, list):
        raise FaultsError([Fault((*at, "items"), "must be a list of items")])
    if len(items) > MOST_ENTRIES:
        raise FaultsError([Fault((*at, "items"), f"must be at most {MOST_ENTRIES} items")])
    found = []
    for index, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            raise FaultsError([Fault((*at, "items", index, "name"), "is missing")])
        found.append(Entry(name, item))
    return found


def _unique(entries: list[Entry], at: At) -> list[Entry]:
    twice = sorted(name for name, times in Counter(one.name for one in entries).items() if times > 1)
    if twice:
        raise FaultsError([Fault((*at, "items"), f"name {name} twice") for name in twice])
    if len(entries) > MOST_ENTRIES:
        raise FaultsError([Fault((*at, "items"), f"must be at most {MOST_ENTRIES} items")])
    return entries


def _includes(document: Any, path: str) -> list[str]:
    includes = document.get("include", []) if isinstance(document, dict) else []
    if not isinstance(includes, list) or any(not isinstance(one, str) or path_fault(one) for one in includes):
        raise FaultsError([Fault((path, "include"), "must be paths of further catalogues")])
    return includes


def _refused(url: str, status: int) -> AppError:
    retryable = status >= 500 or status == 429
    return AppError(
        "remote_refused", 502, f"The source answered {status} for {_path(url)}.", "See that it is there.", retryable
    )


def _path(url: str) -> str:
    return urlsplit(url).path[:200]
