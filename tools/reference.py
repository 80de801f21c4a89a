"""The tool catalogue as Markdown: README's table and ``docs/tools.md`` come from here, and CI keeps them fresh."""

from __future__ import annotations

from typing import Any, Final

from tools.catalog import CATALOG, Catalog
from tools.contract import Hints, ResourceSpec, ToolSpec

INTRODUCTION: Final = (
    "Generated from the registry in `tools/catalog.py`; do not edit. A caller sees only what its key's scopes allow."
    " `?project=ID` hides and fills in `project_id`; `?read_only=1` leaves only what changes nothing."
)


def table(catalog: Catalog = CATALOG) -> str:
    """One row a tool: name, what it is for, scope, hints."""
    rows = ["| tool | what it does | scope | hints |", "|---|---|---|---|"]
    rows += [
        f"| `{spec.name}` | {spec.description.splitlines()[0]} | `{spec.scope}` | {_hints(spec.hints)} |"
        for spec in catalog.tools
    ]
    return "\n".join(rows)


def page(catalog: Catalog = CATALOG) -> str:
    """Every tool and resource with its parameters."""
    parts = [
        "# Tools and resources",
        INTRODUCTION,
        table(catalog),
    ]
    parts += [_tool(spec) for spec in catalog.tools]
    parts += ["# Resources", *(_resource(spec) for spec in catalog.resources)]
    return "\n\n".join(parts) + "\n"


def _tool(spec: ToolSpec) -> str:
    lines = [f"## {spec.name}", "", f"{spec.title}. {spec.description}", ""]
    required = spec.input_schema.get("required", [])
    if spec.input_schema["properties"]:
        lines += ["| parameter | type | required | meaning |", "|---|---|---|---|"]
    for name, schema in spec.input_schema["properties"].items():
        meaning = schema.get("description", "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_type(schema)} | {'yes' if name in required else 'no'} | {meaning} |")
    fields = ", ".join(f"`{name}`" for name in spec.output_schema.get("properties", {}))
    lines += ["", f"Answers with {fields}. Scope `{spec.scope}`; {_hints(spec.hints)}."]
    return "\n".join(lines)


def _resource(spec: ResourceSpec) -> str:
    return f"## {spec.name}\n\n`{spec.uri_template}` ({spec.mime_type}). {spec.description} Scope `{spec.scope}`."


def _hints(hints: Hints) -> str:
    said = [
        "reads" if hints.read_only else "writes",
        "destructive" if hints.destructive else "",
        "idempotent" if hints.idempotent else "",
        "reaches outside" if hints.open_world else "",
    ]
    return ", ".join(word for word in said if word)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return "list of " + _type(schema["items"])
    return str(schema.get("format") or schema.get("type", "any"))
