"""What callers rely on does not change unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contracts import snapshots
from tools.catalog import CATALOG, Catalog

pytestmark = pytest.mark.promise("MCP-12")


def test_every_tool_and_prompt_is_what_its_snapshot_says() -> None:
    assert snapshots.stale() == [], "if this change is meant: python -m tests.contracts write"


@pytest.mark.parametrize(
    "changed",
    [
        {"description": "Something else."},
        {"title": "Something else"},
        {"input_schema": {"type": "object", "properties": {}}},
        {"output_schema": {"type": "object"}},
        {"hints": replace(CATALOG.tools[0].hints, idempotent=False)},
        {"scope": CATALOG.tools[2].scope},
        {"untrusted": ()},
    ],
    ids=lambda changed: str(next(iter(changed))),
)
def test_a_change_that_a_caller_can_see_makes_a_snapshot_stale(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]
) -> None:
    first, *others = CATALOG.tools
    drifted = Catalog([replace(first, **changed), *others], CATALOG.resources, CATALOG.prompts)  # type: ignore[arg-type]  # any field
    monkeypatch.setattr(snapshots, "CATALOG", drifted)
    assert f"tests/contracts/{first.name}.json" in snapshots.stale()


def test_a_tool_that_goes_or_comes_makes_a_snapshot_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = CATALOG.tools
    monkeypatch.setattr(snapshots, "CATALOG", Catalog([*others, replace(first, name="renamed")], (), CATALOG.prompts))
    assert {f"tests/contracts/{first.name}.json", "tests/contracts/renamed.json"} <= set(snapshots.stale())
