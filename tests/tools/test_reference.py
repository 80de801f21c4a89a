from __future__ import annotations

from tools.catalog import CATALOG
from tools.reference import page, table


def test_the_table_has_a_row_for_every_tool() -> None:
    rows = table().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == [spec.name for spec in CATALOG.tools]


def test_the_page_names_every_parameter_and_resource() -> None:
    text = page()

    for spec in CATALOG.tools:
        section = text.split(f"## {spec.name}\n")[1].split("\n## ")[0]
        for name in spec.input_schema["properties"]:
            assert f"| `{name}` |" in section
    for resource in CATALOG.resources:
        assert resource.uri_template in text
