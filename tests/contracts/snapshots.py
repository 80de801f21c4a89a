"""What callers rely on, written down: one file a tool and a prompt, and the token counts the preview shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from server.mcp.costs import counted_text
from server.mcp.handlers import INSTRUCTIONS
from tests import budget
from tools.catalog import CATALOG
from tools.contract import ToolSpec
from tools.prompts import PromptSpec

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = "tests/contracts"
COSTS: Final = "server/mcp/token_costs.json"


def files() -> dict[str, str]:
    """Path in the repository -> what it should be."""
    found = {f"{FOLDER}/{spec.name}.json": _tool(spec) for spec in CATALOG.tools}
    found |= {f"{FOLDER}/prompt-{spec.name}.json": _prompt(spec) for spec in CATALOG.prompts}
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in found.items()} | {
        COSTS: json.dumps(_costs(), indent=2) + "\n"
    }


def stale() -> list[str]:
    """Files that are missing, differ, or belong to nothing any more."""
    wanted = files()
    there = {f"{FOLDER}/{path.name}" for path in (ROOT / FOLDER).glob("*.json")}
    changed = [name for name, text in wanted.items() if _text(name) != text]
    return sorted({*changed, *(there - wanted.keys())})


def _text(name: str) -> str | None:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else None


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "title": spec.title,
        "family": spec.family,
        "description": spec.description,
        "scope": spec.scope.value,
        "hints": asdict(spec.hints),
        "account_wide": spec.account_wide,
        "untrusted": list(spec.untrusted),
        "input_schema": spec.input_schema,
        "output_schema": spec.output_schema,
    }


def _prompt(spec: PromptSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "uses": [used.name for used in spec.uses],
        "arguments": [asdict(argument) for argument in spec.arguments],
    }


def _costs() -> dict[str, Any]:
    def cost(spec: ToolSpec, schema: dict[str, Any]) -> int:
        return budget.tokens(counted_text(spec.name, spec.description, schema))

    return {
        "instructions": budget.tokens(INSTRUCTIONS),
        "tools": {
            spec.name: {"whole": cost(spec, spec.input_schema), "narrowed": cost(spec, spec.narrowed_schema())}
            for spec in CATALOG.tools
        },
    }
