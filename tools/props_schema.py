"""The JSON Schemas that come with a component: of its props, and of the state it keeps.

Agents build props from them and hosts check against them, so they are held to JSON Schema 2020-12 in whole, describe an
object, and stand by themselves: a reference leads to a place in the same schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from tools.component_faults import At, Fault, of_schema

MOST: Final = 64 << 10
MOST_PARTS: Final = 3000
"""Objects in it: to check one takes a tenth of a millisecond, for whatever little it says."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
VALUES: Final = frozenset({"const", "enum", "default", "examples"})
"""What holds values and no schemas."""
NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
"""What holds schemas by names, which may be those of keywords."""
REFERENCES: Final = ("$ref", "$dynamicRef")
ANCHORS: Final = ("$anchor", "$dynamicAnchor")


def schema_faults(schema: Any, root: At) -> list[Fault]:
    """All that is wrong with a schema. It is not nested too deep for recursion: whoever calls has seen to that."""
    if not isinstance(schema, dict):
        return [Fault(root, "must be a JSON Schema: an object", {"type": "object"})]
    if len(json.dumps(schema, ensure_ascii=False)) > MOST:
        return [Fault(root, f"must be at most {MOST} bytes of JSON")]
    if sum(isinstance(one, dict) for one, _at in _parts(schema, root)) > MOST_PARTS:
        return [Fault(root, f"must be of at most {MOST_PARTS} objects")]
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        return [Fault((*root, "$schema"), f"must be {DIALECT}, the only one that is understood", {"const": DIALECT})]
    faults = list(of_schema(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema), root))
    if schema.get("type") != "object":
        faults.append(Fault((*root, "type"), "must be object: props and state are objects", {"const": "object"}))
    return faults or [*_reference_faults(schema, root)]


def _reference_faults(schema: dict[str, Any], root: At) -> Iterator[Fault]:
    references: list[tuple[At, str]] = []
    anchors: set[str] = set()
    for one, at in _parts(schema, root):
        if isinstance(one, dict):
            anchors |= {one[name] for name in ANCHORS if isinstance(one.get(name), str)}
            references += [((*at, name), one[name]) for name in REFERENCES if isinstance(one.get(name), str)]
    for at, reference in references:
        if not reference.startswith("#"):
            yield Fault(at, "must lead to a place in the same schema, such as #/$defs/row")
        elif reference[1:] not in anchors and not _leads_somewhere(schema, unquote(reference[1:])):
            yield Fault(at, "leads nowhere")


def _parts(schema: dict[str, Any], root: At) -> Iterator[tuple[Any, At]]:
    """All that stands in a schema but for values, with its place."""
    places: list[tuple[Any, At, bool]] = [(schema, root, False)]
    while places:
        one, at, named = places.pop()
        yield one, at
        if isinstance(one, list):
            places += [(inner, (*at, index), False) for index, inner in enumerate(one)]
        elif isinstance(one, dict):
            places += [
                (inner, (*at, name), name in NAMED and not named)
                for name, inner in one.items()
                if named or name not in VALUES
            ]


def _leads_somewhere(schema: Any, pointer: str) -> bool:
    """Whether there is something at a JSON Pointer (RFC 6901)."""
    if pointer and not pointer.startswith("/"):
        return False
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdigit() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, dict) and name in schema:
            schema = schema[name]
        else:
            return False
    return True
