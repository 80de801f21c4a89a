"""What listings cost a model in tokens (o200k_base), counted when the catalogue was made, not when somebody asks.

``python -m tests.contracts write`` counts and writes ``token_costs.json``; a test fails when it is stale.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

from pydantic_core import from_json, to_json

ENCODING: Final = "o200k_base"


def counted_text(name: str, description: str, input_schema: dict[str, Any]) -> str:
    """What of a tool is counted: what hosts put before a model."""
    return to_json({"name": name, "description": description, "inputSchema": input_schema}).decode()


def tool_tokens(name: str, *, narrowed: bool) -> int | None:
    """The tokens of one tool as a caller sees it, ``narrowed`` to a project or not; ``None`` for one nobody counted."""
    found = _costs()["tools"].get(name)
    return None if found is None else int(found["narrowed" if narrowed else "whole"])


def instructions_tokens() -> int:
    return int(_costs()["instructions"])


@cache
def _costs() -> dict[str, Any]:
    loaded: dict[str, Any] = from_json((files("server.mcp") / "token_costs.json").read_bytes())
    return loaded
