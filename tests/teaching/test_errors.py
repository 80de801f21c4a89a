"""The source itself: every place that makes an error says what it is, what to do, and names only tools there are."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from tests.test_promises import ROOT, load
from tools.catalog import CATALOG
from tools.mistakes import lister_of

pytestmark = pytest.mark.promise("MCP-09")


def sources() -> Any:
    return load("errors")


def test_every_error_has_a_code_in_snake_case_a_message_and_a_hint() -> None:
    found = sources().made(ROOT)
    assert len(found) > 100
    faults = [
        one
        for one in found
        if one.code is None or not re.fullmatch(r"[a-z][a-z0-9_]*", one.code.replace("…", "x")) or one.hint == ""
    ]
    assert faults == []


def test_every_message_and_hint_is_a_sentence() -> None:
    said = [(one.place, text) for one in sources().made(ROOT) for text in (one.message, one.hint) if text]
    assert [(place, text) for place, text in said if not text.rstrip(")}'\"`…").strip() and text != "…"] == []
    short = [(place, text) for place, text in said if len(text) < 8 and "…" not in text]
    assert short == []


def test_a_code_is_retryable_or_not_wherever_it_is_made() -> None:
    """Those few that are both depend on what happened, and say so each time."""
    seen: dict[str, set[str]] = {}
    for one in sources().made(ROOT):
        seen.setdefault(one.code, set()).add(one.retryable)
    assert {code for code, answers in seen.items() if len(answers) > 1} <= {
        "invalid_request",
        "model_unavailable",
        "remote_refused",
    }


def test_every_next_tool_is_one_of_the_catalogue() -> None:
    named: set[str] = set()
    for package in ("db", "tools", "agents", "server"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Dict):
                    named |= {
                        str(value.value)
                        for key, value in zip(node.keys, node.values, strict=True)
                        if isinstance(key, ast.Constant)
                        and key.value == "next_tool"
                        and isinstance(value, ast.Constant)
                    }
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "not_found":
                    kind = node.args[0]
                    if len(node.args) == 1 and not node.keywords and isinstance(kind, ast.Constant):
                        named.add(f"list_{kind.value!s}s")
    assert "list_projects" in named
    assert {name for name in named if CATALOG.tool(name) is None} == set()


def test_whatever_a_tool_takes_an_id_of_has_a_tool_that_lists_it() -> None:
    ids = {
        name
        for spec in CATALOG.tools
        for name, schema in spec.input_schema["properties"].items()
        if name.endswith("_id") and schema.get("format") == "uuid"
    }
    assert {name for name in ids if CATALOG.tool(lister_of(name)) is None} == set()
