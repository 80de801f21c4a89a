"""A version of a component as an answer: as much of it as fits, and any of its files in parts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from db import components
from db.errors import AppError
from tools.component_item import META
from tools.pages import part
from tools.result import NOTE_BYTES
from tools.trust import SAID, WORDS, Trusted, Untrusted, UntrustedSchema

if TYPE_CHECKING:
    import asyncpg

    from tools.store import Store

WHOLE: Final = "item.json"
"""The name under which the whole item, with its schemas and without the contents of its files, is read in parts."""
MOST_VERSIONS: Final = 20
SCHEMAS: Final = ("props", "state")
FENCES: Final = 50
"""What the marks around one text of others add."""


class ComponentFile(BaseModel):
    path: Untrusted[str]
    type: Trusted[str]
    size: int
    target: Untrusted[str] | None = None


class ComponentRelease(BaseModel):
    version: Trusted[str]
    status: Literal["published", "deprecated", "yanked"]


class Component(BaseModel):
    """``omitted``: what did not fit; item.json has it. A name has letters, digits and . _ - alone, so it is marked as
    nobody's words: it is for programs, and for calls."""

    name: Trusted[str]
    version: Trusted[str]
    status: Literal["published", "deprecated", "yanked"]
    reason: Untrusted[str]
    type: Trusted[str]
    title: Untrusted[str]
    description: Untrusted[str]
    hash: Trusted[str]
    published_at: datetime
    props: UntrustedSchema | None = Field(default=None, description="JSON Schema of what it renders.")
    state: UntrustedSchema | None = Field(default=None, description="JSON Schema of what it keeps.")
    files: list[ComponentFile] = []
    dependencies: Untrusted[list[str]] = []
    registry_dependencies: Untrusted[list[str]] = []
    docs: Untrusted[str] | None = None
    versions: list[ComponentRelease] = []
    omitted: Trusted[list[str]] = []
    text: Untrusted[str] | None = Field(default=None, description="Of the file that was asked for.")
    next_cursor: Trusted[str] | None = Field(default=None, description="Set when the text goes on.")


def shown_hash(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"


def whole(row: asyncpg.Record) -> dict[str, Any]:
    """The item in shadcn's format, without the contents of its files; what is ours stands in ``meta.innkeeper``."""
    item: dict[str, Any] = json.loads(row["item"])
    ours = {"version": row["version"], "hash": shown_hash(row["hash"]), "status": row["status"]}
    ours |= {"reason": row["reason"]} if row["reason"] else {}
    ours |= {name: json.loads(row[name]) for name in ("props", "state") if row[name] is not None}
    item["meta"] = {**item.get("meta", {}), META: ours}
    return item


def described(row: asyncpg.Record, name: str, others: list[asyncpg.Record], max_bytes: int) -> Component:
    """What there is to say of a version, the most useful first, in at most ``max_bytes``."""
    item: dict[str, Any] = json.loads(row["item"])
    shown = _head(row, name)
    further = {
        "props": json.loads(row["props"]) if row["props"] is not None else None,
        "files": [ComponentFile(**file) for file in item.get("files", ())],
        "state": json.loads(row["state"]) if row["state"] is not None else None,
        "dependencies": item.get("dependencies", []),
        "registry_dependencies": item.get("registryDependencies", []),
        "versions": [ComponentRelease(**one) for one in others],
        "docs": item.get("docs"),
    }
    room = max_bytes - NOTE_BYTES - _frame(shown)
    for field, value in further.items():
        if not value:
            continue
        one = Component.model_construct(**{field: value})
        json_length = len(one.model_dump_json(exclude_unset=True).encode())
        size = json_length + FENCES * (_said(value) if field in SCHEMAS else _texts(value))
        if size <= room:
            setattr(shown, field, value)
            room -= size
        else:
            shown.omitted.append(field)
    return shown


async def with_file(
    store: Store, row: asyncpg.Record, name: str, path: str, cursor: str | None, max_bytes: int
) -> Component:
    """The text of a file of a version, from where ``cursor`` says. Raises ``AppError`` 404 for one it does not have."""
    shown = _head(row, name)
    if path == WHOLE:
        text = json.dumps(whole(row), ensure_ascii=False, indent=1)
    else:
        text = (await content(store, row, path)).decode()
    shown.text, shown.next_cursor = part(text, cursor, max_bytes - NOTE_BYTES - _frame(shown))
    return shown


async def content(store: Store, row: asyncpg.Record, path: str) -> bytes:
    """The bytes of a file. Raises ``AppError`` 404."""
    for file in json.loads(row["item"]).get("files", ()):
        if file["path"] == path:
            return await stored(store, row["project_id"], file)
    raise AppError(
        "file_not_found",
        404,
        "This version has no such file.",
        "Leave file out to see which it has (get_component), and use a path from there.",
        details={"arguments": [{"do": "drop", "at": "file"}]},
    )


async def stored(store: Store, project_id: UUID, file: dict[str, Any]) -> bytes:
    """The content of a file of an item. Raises ``AppError`` when the store has lost it."""
    key = components.blob_key(project_id, bytes.fromhex(file["sha256"]))
    data = await store.read(key, 0, file["size"]) if file["size"] else b""
    if len(data) != file["size"]:
        raise AppError(
            "content_lost", 503, "The store does not have this file any more.", "Ask who runs this house.", False
        )
    return data


def _head(row: asyncpg.Record, name: str) -> Component:
    columns = ("version", "status", "reason", "type", "title", "description")
    values = {column: row[column] for column in columns}
    return Component(name=name, hash=shown_hash(row["hash"]), published_at=row["created_at"], **values)


def _frame(head: Component) -> int:
    """The length of an answer that says nothing more, with the names of all that it may yet leave out."""
    return len(head.model_dump_json().encode()) + FENCES * len(Component.model_fields)


def _said(schema: Any) -> int:
    """How many texts of a schema get marks around them, at most: those people read, and those too long for names."""
    if isinstance(schema, dict):
        return sum((name in SAID and isinstance(one, str)) or _said(one) for name, one in schema.items())
    if isinstance(schema, list):
        return sum(_said(one) for one in schema)
    return isinstance(schema, str) and len(schema.split()) > WORDS


def _texts(value: Any) -> int:
    """How many texts a value holds, each of which gets marks around it."""
    if isinstance(value, str):
        return 1
    if isinstance(value, BaseModel):
        return _texts(value.model_dump())
    if isinstance(value, dict):
        return len(value) + sum(_texts(one) for one in value.values())
    return sum(_texts(one) for one in value) if isinstance(value, list) else 0
