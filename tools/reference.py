"""The catalogue as Markdown: README's table, ``docs/tools.md`` and a page a family come from here, kept fresh by CI."""

from __future__ import annotations

from typing import Any, Final

from tools.catalog import CATALOG, Catalog
from tools.contract import Hints, ToolSpec
from tools.prompts import PromptSpec
from tools.resources import ResourceSpec
from tools.trust import AS_SCHEMA

INTRODUCTION: Final = (
    "Generated from the registry in `tools/catalog.py`; do not edit. A caller sees only what its key's scopes allow."
    " `?project=ID` hides and fills in `project_id`; `?read_only=1` leaves only what changes nothing."
)


FAMILY: Final = "Generated from the registry in `tools/catalog.py`; do not edit. All families: [tools](../tools.md)."
PROMPTS: Final = (
    "Workflows that a person starts by name. A caller sees those whose tools it may all call; bound to a project, it"
    " gives no `project`."
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
    """Every tool in one table, the families, and all resources and prompts."""
    families = [f"- [{family}](tools/{family}.md){_offered(family, catalog)}" for family in sorted(catalog.families)]
    parts = ["# Tools, resources and prompts", INTRODUCTION, table(catalog), "## Families", "\n".join(families)]
    parts += ["## Resources", *(_resource(spec) for spec in catalog.resources)]
    parts += ["## Prompts", PROMPTS, *(_prompt(spec) for spec in catalog.prompts)]
    return "\n\n".join(parts) + "\n"


def family_pages(catalog: Catalog = CATALOG) -> dict[str, str]:
    """Family -> its page: every tool with its parameters and what it answers."""
    return {family: _family(family, catalog) for family in sorted(catalog.families)}


def _offered(family: str, catalog: Catalog) -> str:
    return "" if family in catalog.default_families else f": only with `?tools={family}`"


def _family(family: str, catalog: Catalog) -> str:
    tools = [_tool(spec) for spec in catalog.tools if spec.family == family]
    return "\n\n".join([f"# The {family} family", FAMILY, *tools]) + "\n"


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
    if spec.untrusted:
        lines += ["", f"Written by others, and fenced for models: {_pointers(spec.untrusted)}."]
    if spec.aliases:
        lines += ["", f"Also answers to {', '.join(f'`{name}`' for name in spec.aliases)}."]
    return "\n".join(lines)


def _pointers(paths: tuple[str, ...]) -> str:
    return ", ".join(f"`{path.removesuffix(AS_SCHEMA)}`" for path in paths)


def _resource(spec: ResourceSpec) -> str:
    kind = spec.mime_type or "its own type"
    return f"### {spec.name}\n\n`{spec.uri_template}` ({kind}). {spec.description} Scope `{spec.scope}`."


def _prompt(spec: PromptSpec) -> str:
    used = ", ".join(f"`{tool.name}`" for tool in spec.uses)
    lines = [f"### {spec.name}", "", f"{spec.description} Uses {used}.", ""]
    lines += [
        f"- `{one.name}`{'' if one.required else ' (may be left out)'}: {one.description}" for one in spec.arguments
    ]
    return "\n".join(lines).rstrip()


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
