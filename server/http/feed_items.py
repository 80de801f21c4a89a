"""Components as the feed gives them: shadcn's registry-item.json and registry.json, with what they need of this very
registry under addresses that lead back to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tools.component_dependencies import Own, own_dependency
from tools.component_item import META
from tools.component_reading import shown_hash, stored

if TYPE_CHECKING:
    import asyncpg

    from db.feed import Feed
    from tools.store import Store

ITEM_SCHEMA: Final = "https://ui.shadcn.com/schema/registry-item.json"
REGISTRY_SCHEMA: Final = "https://ui.shadcn.com/schema/registry.json"
FORM: Final = "1"
"""Part of every validator: raise it when the same version is spelled differently than before."""


def address(feed: Feed, base_url: str) -> Callable[[Own], str]:
    """How an item of this registry is named to the CLI: by its address, or by the namespace of whoever has a key."""
    if feed.public:
        return lambda one: f"{base_url}/r/{feed.project_id}/{quote(str(one), safe='@')}.json"
    return lambda one: f"@{feed.namespace}/{one}"


async def whole(
    store: Store, feed: Feed, row: asyncpg.Record, address: Callable[[Own], str], *, exact: bool
) -> dict[str, Any]:
    """A version with the contents of its files. What may be said of it later (its status) is told only to who did not
    name this very version, whose document never changes."""
    item = _item(row["item"], address)
    if "files" in item:
        item["files"] = await asyncio.gather(*(_file(store, feed, file) for file in item["files"]))
    ours = {"version": row["version"], "hash": shown_hash(row["hash"])}
    ours |= {name: json.loads(row[name]) for name in ("props", "state") if row[name] is not None}
    if row["status"] == "deprecated" and not exact:
        ours |= {"status": "deprecated", "reason": row["reason"]}
        said = f"{row['version']} is deprecated{': ' if row['reason'] else '.'}{row['reason']}"
        item["docs"] = "\n\n".join(text for text in (said, item.get("docs")) if text)
    return {"$schema": ITEM_SCHEMA, **item, "meta": {**item.get("meta", {}), META: ours}}


def catalogue(
    feed: Feed, rows: Sequence[asyncpg.Record], address: Callable[[Own], str], base_url: str, paging: Mapping[str, Any]
) -> dict[str, Any]:
    """All components without the contents of their files. ``paging``: what to say of a page, if it is one."""
    return {
        "$schema": REGISTRY_SCHEMA,
        "name": feed.namespace,
        "homepage": base_url,
        "items": [_listed(row, address) for row in rows],
        **paging,
    }


def _listed(row: asyncpg.Record, address: Callable[[Own], str]) -> dict[str, Any]:
    item = _item(row["item"], address)
    if "files" in item:
        item["files"] = [_plain(file) for file in item["files"]]
    ours = {"version": row["version"], "hash": shown_hash(row["hash"])}
    if row["status"] == "deprecated":
        ours |= {"status": "deprecated", "reason": row["reason"]}
    return {**item, "meta": {**item.get("meta", {}), META: ours}}


def _item(text: str, address: Callable[[Own], str]) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(text)
    if "registryDependencies" in item:
        found = [(name, own_dependency(name, lambda _address: None)) for name in item["registryDependencies"]]
        item["registryDependencies"] = [name if own is None else address(own) for name, own in found]
    return item


async def _file(store: Store, feed: Feed, file: dict[str, Any]) -> dict[str, Any]:
    return {**_plain(file), "content": (await stored(store, feed.project_id, file)).decode()}


def _plain(file: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in file.items() if name not in ("sha256", "size")}
