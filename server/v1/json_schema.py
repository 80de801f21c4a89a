"""JSON Schemas as clients' libraries still write them (draft-07: zod 3's), in the words of 2020-12."""

from __future__ import annotations

from typing import Any


def current(schema: Any) -> Any:
    """A list under ``items`` is now called ``prefixItems``, and ``additionalItems`` is now ``items`` (2020-12, 10.3.1).
    All else that these libraries write reads the same; what does not fit anyway is left for who checks it."""
    if isinstance(schema, list):
        return [current(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: current(held) for name, held in schema.items()}
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
        if "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
    return found
