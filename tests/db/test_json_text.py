"""Whatever text comes, and however it is cut, what is passed on of it can be made whole, and JSON stays as it is."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.json_text import JsonText, whole

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
CUTS = st.lists(st.integers(0, 9999), max_size=10)
MARKS = st.text('{}[]",:\\u0123etrufalsn .-+xé\n\x00', max_size=6)


def passed_on(text: str, cuts: list[int]) -> str:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    read = JsonText()
    return "".join(read.feed(text[start:end]) for start, end in pairwise(places)) + read.close()


@settings(deadline=None, max_examples=200)
@given(VALUES, st.booleans(), st.sampled_from([None, 1]), CUTS, st.sampled_from(["", " ", "\n"]))
def test_json_is_passed_on_as_it_is(
    value: Any, ascii_only: bool, indent: int | None, cuts: list[int], space: str
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent) + space
    assert passed_on(text, cuts) == text == whole(text)


@settings(deadline=None, max_examples=300)
@given(VALUES, st.integers(0, 9999), MARKS, st.booleans(), CUTS)
def test_what_breaks_off_or_is_no_json_is_closed(
    value: Any, at: int, marks: str, goes_on: bool, cuts: list[int]
) -> None:
    text = json.dumps(value)
    at %= len(text) + 1
    text = text[:at] + marks + text[at:] * goes_on
    told = passed_on(text, cuts)
    assert told == whole(text)
    if told:
        json.loads(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": ', "{}"),
        ('{"a": "b\\u12', '{"a": "b"}'),
        ('{"a": 1, "b', '{"a": 1}'),
        ('{"a": 1}{"b": 2}', '{"a": 1}'),
        ('{"a": [1, NaN', '{"a": [1]}'),
        ('{"a": ' + "[" * 300, '{"a": ' + "[" * 199 + "]" * 199 + "}"),
        ('{"' + "k" * 2000 + '": 1}', '{"' + "k" * 2000 + '": 1}'),
        ('{"a": ' + "1" * 5000 + "}", "{}"),
        ("Sure, here it is", ""),
        ("12", "12"),
    ],
)
def test_as_much_is_told_as_is_a_beginning_of_json(text: str, told: str) -> None:
    assert whole(text) == told == passed_on(text, list(range(0, 9999, 3)))
