"""Who wrote a text: us, or somebody whose words must not steer a model. Output models say it field by field.

``Untrusted[str]`` was written by tenants or third parties, ``Trusted[str]`` by this house; ``UntrustedSchema`` is a
JSON Schema of theirs, whose words of the language itself programs need. What nobody declared counts as untrusted; a
test over the catalogue refuses such fields. UUIDs, dates, enums, numbers and literals need no mark.
From the marks come the label a result carries and the fences in the text that models read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from secrets import token_hex
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema, from_json, to_json

MARK: Final = "x-innkeeper-trust"
EACH: Final = "*"
Written = TypeVar("Written")
AS_SCHEMA: Final = "/~schema"
"""Behind a pointer to a JSON Schema, where no pointer can have it (RFC 6901: '~' stands before 0 or 1 alone)."""
SAID: Final = frozenset({"title", "description", "$comment"})
WORDS: Final = 5
"""Longer texts in a schema are taken for sentences wherever they stand; shorter ones may be values to be used."""
_NAME: Final = re.compile(r"[\w$@.:/~#-]{1,80}")
_boundaries: list[str] = []


@dataclass(frozen=True, slots=True)
class Origin:
    """The mark in a field's annotation; it stands in the generated schema until the contract takes it out."""

    name: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), MARK: self.name}


Trusted: TypeAlias = Annotated[Written, Origin("trusted")]
Untrusted: TypeAlias = Annotated[Written, Origin("untrusted")]
UntrustedSchema: TypeAlias = Annotated[dict[str, Any], Origin("schema")]


def untrusted_paths(schema: dict[str, Any], *, undeclared_only: bool = False) -> tuple[str, ...]:
    """JSON pointers, with ``*`` for every element or key, of what may hold somebody else's words in a value of the
    (marked) JSON schema. A pointer names everything under it. ``undeclared_only``: those that no mark speaks of."""
    found: dict[str, None] = {}
    for path, origin in _texts(schema, schema.get("$defs", {}), "", ()):
        if origin is None or (origin != "trusted" and not undeclared_only):
            found[path + (AS_SCHEMA if origin == "schema" else "")] = None
    return tuple(found)


def unmarked(schema: Any) -> Any:
    """The schema as it goes to callers."""
    if isinstance(schema, dict):
        return {name: unmarked(value) for name, value in schema.items() if name != MARK}
    return [unmarked(item) for item in schema] if isinstance(schema, list) else schema


def fenced(json: bytes, paths: tuple[str, ...]) -> str:
    """The JSON for a model: still JSON, with each text under ``paths`` between marks that name a boundary made for
    this one result, so that no text can hold the mark that ends it."""
    if not paths:
        return json.decode()
    opening, closing = _marks()
    value = from_json(json)

    def mark(text: str) -> str:
        return text and f"{opening}{text}{closing}"

    for path, in_schema in _steps(paths):
        change = partial(_in_schema, mark=mark) if in_schema else mark
        value = _changed(value, path, change, whole=in_schema)
    return to_json(value).decode()


@lru_cache(maxsize=1024)
def _steps(paths: tuple[str, ...]) -> tuple[tuple[list[str], bool], ...]:
    """Each way, and whether it leads to a JSON Schema."""
    return tuple((path.removesuffix(AS_SCHEMA).split("/")[1:], path.endswith(AS_SCHEMA)) for path in paths)


def _in_schema(value: Any, mark: Callable[[str], str]) -> Any:
    """A JSON Schema with what people say in it marked, and its language, names and values as they are."""
    if isinstance(value, dict):
        return {
            name if _NAME.fullmatch(name) else mark(name): mark(one)
            if name in SAID and isinstance(one, str)
            else _in_schema(one, mark)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_in_schema(one, mark) for one in value]
    return mark(value) if isinstance(value, str) and len(value.split()) > WORDS else value


def marked(text: str) -> str:
    """A whole text that others wrote, between marks of its own."""
    opening, closing = _marks()
    return f"{opening}{text}{closing}"


def _marks() -> tuple[str, str]:
    boundary = _boundary()
    return f"<untrusted-{boundary}>", f"</untrusted-{boundary}>"


def _boundary() -> str:
    """Eight hexadecimal digits that nobody can foresee; the kernel is asked for many at once."""
    if not _boundaries:
        drawn = token_hex(4 * 256)
        _boundaries.extend(drawn[start : start + 8] for start in range(0, len(drawn), 8))
    return _boundaries.pop()


def _changed(value: Any, path: list[str], change: Callable[[Any], Any], *, whole: bool = False) -> Any:
    """``value``, which is nobody else's, with its texts under ``path`` changed. ``whole``: what the path leads to is
    changed as it is, not each text in it."""
    if whole and not path:
        return change(value)
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        rest = path[1:] if path else path
        return [_changed(item, rest, change, whole=whole) for item in value]
    if not isinstance(value, dict):
        return value
    if not path:
        return {change(name): _changed(item, path, change, whole=whole) for name, item in value.items()}
    if path[0] == EACH:
        return {change(name): _changed(item, path[1:], change, whole=whole) for name, item in value.items()}
    if path[0] in value:
        value[path[0]] = _changed(value[path[0]], path[1:], change, whole=whole)
    return value


def _texts(
    schema: dict[str, Any], defs: dict[str, Any], path: str, seen: tuple[str, ...]
) -> Iterator[tuple[str, str | None]]:
    """Each place where a text can stand, with the mark on it."""
    name = schema.get("$ref", "").rpartition("/")[2]
    variants = [one for key in ("anyOf", "oneOf", "allOf") for one in schema.get(key, ())]
    if MARK in schema or name in seen:
        yield path, schema.get(MARK)  # a model within itself has none: everything under it counts
    elif name:
        yield from _texts(defs[name], defs, path, (*seen, name))
    elif variants:
        for variant in variants:
            yield from _texts(variant, defs, path, seen)
    elif schema.get("type") == "object":
        for key, field in schema.get("properties", {}).items():
            yield from _texts(field, defs, f"{path}/{key}", seen)
        if schema.get("additionalProperties", not schema.get("properties")):
            yield f"{path}/{EACH}", None
    elif schema.get("type") == "array":
        yield from _texts(schema.get("items", {}), defs, f"{path}/{EACH}", seen)
    elif not _says_little(schema):
        yield path, None


def _says_little(schema: dict[str, Any]) -> bool:
    """Whether no value of the schema can hold a sentence."""
    fixed = "const" in schema or "enum" in schema or "format" in schema
    return fixed or schema.get("type") in ("integer", "number", "boolean", "null")
