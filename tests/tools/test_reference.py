from __future__ import annotations

import pytest

from tools.catalog import CATALOG
from tools.reference import family_pages, page, table


def test_the_table_has_a_row_for_every_tool() -> None:
    rows = table().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == [spec.name for spec in CATALOG.tools]


@pytest.mark.promise("MCP-12")
def test_the_pages_name_every_parameter_resource_and_prompt() -> None:
    text, families = page(), family_pages()

    assert set(families) == CATALOG.families
    for spec in CATALOG.tools:
        assert f"(tools/{spec.family}.md)" in text
        section = families[spec.family].split(f"## {spec.name}\n")[1].split("\n## ")[0]
        for name in spec.input_schema["properties"]:
            assert f"| `{name}` |" in section
    for resource in CATALOG.resources:
        assert resource.uri_template in text
    for prompt in CATALOG.prompts:
        section = text.split(f"### {prompt.name}\n")[1].split("\n### ")[0]
        for argument in prompt.arguments:
            assert f"- `{argument.name}`" in section
