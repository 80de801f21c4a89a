"""An item as it is published: checked against shadcn's registry-item format, hashed, its files apart from it.

Beside the format an item has ``version``, and ``props`` and ``state``, JSON Schemas (2020-12) of what renders it. They
come as arguments of their own or in ``meta.innkeeper``, where our feed puts them, so an item that was fetched can be
published as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from tools import versions
from tools.component_dependencies import Own, dependency_fault, own_dependency
from tools.component_faults import At, Fault, FaultsError, of_schema
from tools.component_paths import package_fault, path_fault, target_fault
from tools.props_schema import schema_faults

META: Final = "innkeeper"
MOST_FILE: Final = 512 << 10
MOST_FILES: Final = 2 << 20
MOST_ITEM: Final = 256 << 10
MOST_WORDS: Final = 4_000
DEEPEST: Final = 40
MOST_VALUES: Final = 10_000
"""Of an item and its schemas: to check one takes some hundredth of a millisecond."""
TARGETED: Final = ("registry:file", "registry:page")
_OF_FILES: Final = ("path", "target", "content")
Json: TypeAlias = dict[str, Any]


class Content(NamedTuple):
    """A file's bytes and their SHA-256."""

    sha256: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """``item``, ``props`` and ``state``: JSON as the author ordered it; files in it have sums and sizes instead of
    contents. ``words``: all that may be searched for. ``own``: what it needs of its own registry."""

    name: str
    version: str | None
    type: str
    title: str
    description: str
    words: str
    item: str
    props: str | None
    state: str | None
    hash: bytes
    size: int
    contents: tuple[Content, ...]
    own: tuple[Own, ...]


def checked(
    item: Json,
    *,
    version: str | None = None,
    props: Json | None = None,
    state: Json | None = None,
    own: Callable[[str], str | None] = lambda _address: None,
    root: At = ("item",),
    strict: bool = True,
) -> Item:
    """Raises ``FaultsError`` with all that is wrong. ``own``: the name behind an address that is this registry's.
    ``root``: where the item stands in what was sent. Without ``strict``, fields the format does not know are left out.
    """
    too_deep = list(_unspeakable({**dict.fromkeys(root, item), "props": props, "state": state}))
    if too_deep:
        raise FaultsError(too_deep)
    ours = (item.get("meta") or {}).get(META) if isinstance(item.get("meta"), dict) else None
    ours = ours if isinstance(ours, dict) else {}
    version, props, state = version or ours.get("version"), props or ours.get("props"), state or ours.get("state")
    item = _plain(item, strict=strict)
    faults = [*of_schema(_format().iter_errors(item), root), *_faults(item, root, own), *_version_faults(version)]
    for name, schema in (("props", props), ("state", state)):
        faults += schema_faults(schema, (name,)) if schema is not None else ()
    if faults:
        raise FaultsError(faults)
    return _made(item, version, props, state, own)


def canonical(value: Any) -> bytes:
    """JSON with sorted names and no spaces: the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@cache
def _format() -> Draft202012Validator:
    return Draft202012Validator(json.loads((Path(__file__).parent / "component_item.schema.json").read_text("utf-8")))


TYPES: Final[tuple[str, ...]] = tuple(_format().schema["properties"]["type"]["enum"])


def _plain(item: Json, *, strict: bool) -> Json:
    """The item without what is ours in it and without the address of its schema."""
    known = _format().schema["properties"]
    kept = {name: value for name, value in item.items() if name != "$schema" and (strict or name in known)}
    if isinstance(kept.get("meta"), dict):
        kept["meta"] = {name: value for name, value in kept["meta"].items() if name != META}
        if not kept["meta"]:
            del kept["meta"]
    return kept


def _unspeakable(value: Any) -> Iterator[Fault]:
    """What no database, no file and no recursion can take, found without recursion."""
    places: list[tuple[Any, At]] = [(value, ())]
    number = 0
    while places:
        one, at = places.pop()
        number += 1
        if number > MOST_VALUES:
            yield Fault(at[:1], f"must hold at most {MOST_VALUES} values and names, with its schemas")
            return
        if len(at) > DEEPEST:
            yield Fault(at[:3], f"is nested more than {DEEPEST} deep")
            return
        if isinstance(one, str):
            if "\x00" in one or any("\ud800" <= letter <= "\udfff" for letter in one if letter > "\ud7ff"):
                yield Fault(at, "must be text: no NUL, no half of a surrogate pair")
        elif isinstance(one, float) and (one != one or one in (float("inf"), -float("inf"))):
            yield Fault(at, "must be a finite number")
        elif isinstance(one, dict):
            places += [(name, at) for name in one]
            places += [(inner, (*at, name)) for name, inner in one.items()]
        elif isinstance(one, list):
            places += [(inner, (*at, index)) for index, inner in enumerate(one)]


def _faults(item: Json, root: At, own: Callable[[str], str | None]) -> Iterator[Fault]:
    """What a schema cannot say, of all that is of the right type."""
    name = item.get("name")
    if isinstance(name, str) and (name.lower().endswith(".json") or name.lower() == "registry"):
        yield Fault((*root, "name"), "must not be 'registry' or end in .json, which are addresses of the feed")
    if item.get("type") == "registry:font" and "font" not in item:
        yield Fault((*root, "font"), "is missing, and a registry:font is nothing without it")
    for kind in ("dependencies", "devDependencies"):
        for index, package in _texts(item.get(kind)):
            if (says := package_fault(package)) is not None:
                yield Fault((*root, kind, index), says)
    for index, address in _texts(item.get("registryDependencies")):
        if (says := dependency_fault(address, own, name)) is not None:
            yield Fault((*root, "registryDependencies", index), says)
    files = item["files"] if isinstance(item.get("files"), list) else []
    yield from _file_faults([one if isinstance(one, dict) else {} for one in files], (*root, "files"))
    if len(canonical({**item, "files": []})) > MOST_ITEM:
        yield Fault(root, f"must be at most {MOST_ITEM} bytes of JSON beside its files")


def _file_faults(files: list[Json], at: At) -> Iterator[Fault]:
    seen: set[str] = set()
    held = 0
    for index, file in enumerate(files):
        path, target, content = (one if isinstance(one := file.get(name), str) else "" for name in _OF_FILES)
        if path and (says := path_fault(path)) is not None:
            yield Fault((*at, index, "path"), says)
        if path in seen:
            yield Fault((*at, index, "path"), "is the path of another file of the item")
        seen |= {path} if path else set()
        if file.get("type") in TARGETED and not target:
            yield Fault((*at, index, "target"), f"is missing: a {file['type']} goes where its target says")
        elif target and (says := target_fault(target)) is not None:
            yield Fault((*at, index, "target"), says)
        size = len(content.encode())
        if size > MOST_FILE:
            yield Fault((*at, index, "content"), f"must be at most {MOST_FILE} bytes")
        held += size
    if held > MOST_FILES:
        yield Fault(at, f"must have at most {MOST_FILES} bytes of content together")


def _texts(value: Any) -> list[tuple[int, str]]:
    listed = value if isinstance(value, list) else []
    return [(index, one) for index, one in enumerate(listed) if isinstance(one, str)]


def _version_faults(version: Any) -> Iterator[Fault]:
    if version is None:
        return
    try:
        versions.parsed(version if isinstance(version, str) else "")
    except ValueError as error:
        yield Fault(("version",), str(error))


def _made(
    item: Json, version: str | None, props: Json | None, state: Json | None, own: Callable[[str], str | None]
) -> Item:
    contents = [Content(sha256(data).digest(), data) for data in (f["content"].encode() for f in item.get("files", ()))]
    named = [own_dependency(address, own) for address in item.get("registryDependencies", ())]
    kept = dict(item)
    if named:
        addresses = zip(named, item["registryDependencies"], strict=True)
        kept["registryDependencies"] = [address if one is None else str(one) for one, address in addresses]
    if "files" in item:
        kept["files"] = [
            {
                **{name: value for name, value in file.items() if name != "content"},
                "sha256": content.sha256.hex(),
                "size": len(content.data),
            }
            for file, content in zip(item["files"], contents, strict=True)
        ]
    texts = [None if one is None else _compact(one) for one in (props, state)]
    return Item(
        name=item["name"],
        version=version,
        type=item["type"],
        title=item.get("title", ""),
        description=item.get("description", ""),
        words=_words(item, props),
        item=_compact(kept),
        props=texts[0],
        state=texts[1],
        hash=sha256(canonical({"item": kept, "props": props, "state": state})).digest(),
        size=sum(len(content.data) for content in contents),
        contents=tuple({content.sha256: content for content in contents}.values()),
        own=tuple(one for one in named if one is not None),
    )


def _words(item: Json, props: Json | None) -> str:
    """Everything that tells what the item is, for searches; the code itself does not."""
    taken = (props or {}).get("properties")
    parts = [item["name"], item.get("title", ""), item.get("description", ""), *item.get("categories", ())]
    parts += [" ".join(taken) if isinstance(taken, dict) else "", item.get("docs", "")]
    parts += [file["path"].rpartition("/")[2] for file in item.get("files", ())]
    return "\n".join(part for part in parts if part)[:MOST_WORDS]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
