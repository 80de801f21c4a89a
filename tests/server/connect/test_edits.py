"""Configuration files of people, edited: everything that was there stays as it stands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.connect import jsonc, toml_tables
from server.connect.faults import Malformed
from server.connect.jsonc_scan import scan

pytestmark = pytest.mark.promise("IDN-40")
GOLDEN = Path(__file__).parent / "golden"
ENTRY = {"type": "http", "url": "https://inn.example/mcp"}
PATH = ("servers", "innkeeper")

GAPS = st.sampled_from(
    ["", "", " ", "\n", "\t\n  ", "\n\n    ", '// a, "comment" }\n', "/* {\n, */", "\n  // b\n  // c\n  "]
)
VALUES = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "null",
        '"}, //"',
        "{}",
        "[ ]",
        "[1, // x\n 2,]",
        '{"a": {"b": [true,],},}',
        '"\\u00e9\\n\\""',
        '"ü"',
    ]
)
KEYS = ['"a"', '"another one"', '"ü\\""', '"//"']


@st.composite
def objects(draw: st.DrawFn, last: str = "") -> str:
    """An object, with the member ``last`` in it if there is one."""
    members = [
        draw(GAPS) + key + draw(GAPS) + ":" + draw(GAPS) + draw(VALUES) + draw(GAPS)
        for key in draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True))
    ]
    if last:
        place: int = draw(st.integers(0, len(members)))
        members.insert(place, draw(GAPS) + last + draw(GAPS))
    comma: str = draw(st.sampled_from(["", ","])) if members else ""
    return "{" + ",".join(members) + comma + draw(GAPS) + "}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Documents as people and editors leave them, with ``servers`` in most of them."""
    servers = '"servers"' + draw(GAPS) + ":" + draw(GAPS) + draw(objects())
    text = draw(GAPS) + draw(objects(servers if draw(st.booleans()) else "")) + draw(GAPS)
    text = draw(st.sampled_from(["", "\ufeff"])) + text
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@given(documents())
@settings(max_examples=100, deadline=None)
def test_what_was_put_in_is_taken_out_byte_for_byte(text: str) -> None:
    edited, mark = jsonc.add(text, PATH, ENTRY)
    said = scan(text).value
    said.setdefault("servers", {})["innkeeper"] = ENTRY
    assert scan(edited).value == said
    assert jsonc.remove(edited, PATH, mark) == text


@given(documents(), st.sampled_from([True, False]))
@settings(max_examples=100, deadline=None)
def test_what_others_put_beside_it_stays_when_it_goes(text: str, known: bool) -> None:
    """Another server comes after ours; ours goes, by what is remembered of it or by its name alone."""
    edited, mark = jsonc.add(text, PATH, ENTRY)
    more, _ = jsonc.add(edited, ("servers", "another"), {"command": "x"})
    rest = jsonc.remove(more, PATH, mark if known else None)
    said = scan(text).value
    said.setdefault("servers", {})["another"] = {"command": "x"}
    assert scan(rest).value == said
    comments = [piece for piece in text.split("\n") if piece.strip().startswith("//")]
    assert all(comment.rstrip("\r") in rest for comment in comments)


@given(documents())
@settings(max_examples=50, deadline=None)
def test_an_entry_that_changes_is_replaced_where_it_stands(text: str) -> None:
    edited, mark = jsonc.add(text, PATH, ENTRY)
    changed = jsonc.replace(edited, PATH, {"url": "https://other.example/mcp"})
    assert jsonc.get(changed, PATH) == {"url": "https://other.example/mcp"}
    assert jsonc.remove(changed, PATH, mark) == text


@pytest.mark.parametrize("name", sorted(file.name for file in GOLDEN.glob("*.before.json*")))
def test_the_file_looks_as_a_person_would_have_written_it(name: str) -> None:
    before = (GOLDEN / name).read_bytes().decode()
    after, mark = jsonc.add(before, PATH, ENTRY)
    assert after == (GOLDEN / name.replace(".before.", ".after.")).read_bytes().decode()
    assert jsonc.remove(after, PATH, mark) == before


@pytest.mark.parametrize("text", ["", " \n", "\ufeff"])
def test_a_file_with_nothing_in_it_becomes_one_and_is_empty_again(text: str) -> None:
    edited, mark = jsonc.add(text, PATH, ENTRY)
    assert json.loads(edited) == {"servers": {"innkeeper": ENTRY}}
    assert edited.endswith("}\n")
    assert jsonc.get(text, PATH) is None
    assert jsonc.remove(edited, PATH, mark) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Line 1, column 2"),
        ('{\n  "servers": {},,\n}', "Line 2, column 17"),
        ('{"servers": {} "x": 1}', 'a comma or "}" was expected'),
        ("{servers: {}}", "a name in quotes"),
        ('{"servers" {}}', "a colon"),
        ('{"servers": }', "a value"),
        ('{"a": [1 2]}', 'a comma or "]"'),
        ('{"servers": {}} {}', "nothing more"),
        ('{"servers": {} /* }', "this comment does not end"),
        ('{"servers": NaN}', "a value"),
        ('{"servers": []}', "an object was expected"),
        ('{"servers": null}', "an object was expected"),
        ("[]", "an object was expected"),
        ('{"servers": {}, "servers": {}}', '"servers" is there twice'),
        ('{"a":' + "[" * 300 + "]" * 300 + "}", "nested too deeply"),
        ("<<<<<<< HEAD\n{}\n", "Line 1, column 1"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(Malformed) as refused:
        jsonc.add(text, PATH, ENTRY)
    assert why in str(refused.value)


CODEX = st.lists(
    st.sampled_from(
        [
            'model = "o9"', "# a comment [mcp_servers.innkeeper]", "", 'notify = [\n  "a",\n]', "number = nan",
            'text = """\n[mcp_servers.innkeeper]\nurl = 1\n"""', "inline = { a = 1 }",
        ]
    ),
    max_size=4, unique=True,
)  # fmt: skip
TABLES = st.lists(
    st.sampled_from(
        [
            '[mcp_servers.other]\ncommand = "x"', "[profiles.a]\nb = 1", "[[hooks]]\nc = 2",
            '[mcp_servers."inn keeper"]\nurl = "y"', "[mcp_servers.other.env]\nA = '1'",
        ]
    ),
    max_size=4, unique=True,
)  # fmt: skip


@given(CODEX, TABLES, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n", "\n\n"]))
@settings(max_examples=150, deadline=None)
def test_codexs_table_is_put_in_and_taken_out_byte_for_byte(
    roots: list[str], tables: list[str], newline: str, end: str
) -> None:
    text = ("\n".join([*roots, *tables]) + end).replace("\n", newline)
    try:
        before: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(Malformed):
            toml_tables.add(text, "innkeeper", {"url": "u"})
        return
    edited, put_in = toml_tables.add(text, "innkeeper", {"url": 'https://inn.example/mcp?a=1&b="2"'})
    before.setdefault("mcp_servers", {})["innkeeper"] = {"url": 'https://inn.example/mcp?a=1&b="2"'}
    assert repr(tomllib.loads(edited)) == repr(before)
    assert toml_tables.remove(edited, "innkeeper", put_in) == text
    assert "innkeeper" not in tomllib.loads(toml_tables.remove(edited, "innkeeper", None)).get("mcp_servers", {})


def test_what_codex_wrote_into_our_table_goes_with_it_and_what_came_after_stays() -> None:
    before = 'model = "o9"\n'
    edited, put_in = toml_tables.add(before, "innkeeper", {"url": "u"})
    told = '\n# mine\n[projects."/x"]\ntrust_level = "trusted"\n'
    edited = (
        edited.replace('url = "u"\n', 'url = "u"\nenabled = false\n\n[mcp_servers.innkeeper.tools.x]\nb = 1\n') + told
    )
    assert toml_tables.remove(edited, "innkeeper", put_in) == before + told


@pytest.mark.parametrize(
    "text", ["mcp_servers = { other = { command = 'x' } }\n", "model = \n", "[mcp_servers]\ninnkeeper = 1\n[x"]
)
def test_a_codex_file_that_cannot_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        toml_tables.add(text, "innkeeper", {"url": "u"})
