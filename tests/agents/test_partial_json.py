"""What patches make of JSON that comes in pieces."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.partial_json import DEEPEST, PartialObject

pytestmark = pytest.mark.promise("RUN-07")

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=80) | st.text(
    'a/~"\\\n\U0001f600\ud83d\ude00', max_size=80
)
# Where a patch would lead to what JavaScript has everything inherit from, nothing more is told.
NAMES = TEXTS.filter(lambda name: name not in ("__proto__", "prototype"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=30,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


def begins(part: Any, whole: Any) -> bool:
    """Whether ``part`` is what there can be of ``whole`` while it is being written."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and begins(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(part) <= len(whole)
            and all(begins(one, other) for one, other in zip(part, whole, strict=False))
        )
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    return type(part) is type(whole) and part == whole


@settings(deadline=None, max_examples=200)
@given(
    OBJECTS,
    st.lists(st.integers(0, 10_000), max_size=12),
    st.booleans(),
    st.sampled_from([None, 2]),
    st.sampled_from([3, 99]),
)
def test_patches_give_the_object_and_each_step_is_a_beginning_of_it(
    value: dict[str, Any], cuts: list[int], ascii_only: bool, indent: int | None, most_told: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    final = json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))
    partial = PartialObject(most_told=most_told)
    seen: dict[str, Any] = {}
    states: dict[str, str] = {}
    for piece in pieces(text, cuts):
        partial.feed(piece)
        seen = jsonpatch.apply_patch(seen, partial.patch())
        states |= partial.states()
        assert begins(seen, final)
        assert set(seen) <= set(states)
    assert partial.whole
    assert seen == final
    assert states == dict.fromkeys(final, "done")


@pytest.mark.parametrize("growing", ["text", "list", "names", "escapes"])
def test_the_work_and_the_patches_grow_with_the_text_and_not_with_its_square(growing: str) -> None:
    def told(size: int) -> tuple[int, float]:
        value: Any = {
            "text": "word " * size,
            "list": list(range(size)),
            "names": {f"name {number}": number for number in range(size)},
            "escapes": "\n\U0001f600" * size,
        }[growing]
        text = json.dumps({"prop": value})
        partial = PartialObject("/props")
        length = 0
        began = time.thread_time()
        for start in range(0, len(text), 4):
            partial.feed(text[start : start + 4])
            length += sum(len(json.dumps(operation)) for operation in partial.patch())
        assert partial.whole
        return length, time.thread_time() - began

    told(500)
    small, quick = told(2_000)
    large, slow = told(16_000)
    assert large < small * 8 * 2
    assert slow < quick * 8 * 4


def test_a_prop_is_started_then_streaming_then_done() -> None:
    partial = PartialObject("/props")
    found = []
    for piece in ('{"title": "', "Hel", 'lo", "count', '": 4', "2}"):
        partial.feed(piece)
        found.append((partial.patch(), partial.states()))
    assert found == [
        ([], {"title": "started"}),
        ([{"op": "add", "path": "/props/title", "value": "Hel"}], {"title": "streaming"}),
        ([{"op": "replace", "path": "/props/title", "value": "Hello"}], {"title": "done"}),
        ([], {"count": "started"}),
        ([{"op": "add", "path": "/props/count", "value": 42}], {"count": "done"}),
    ]


NO_OBJECTS = {
    "[1]": {},
    '"a"': {},
    "1": {},
    "{,}": {},
    '{"a" 1}': {},
    '{"a": tru}': {},
    '{"a": 01}': {},
    '{"a": 1,}': {"a": 1},
    '{"a": [1}': {"a": [1]},
    '{"a": "b\n"}': {"a": "b"},
    '{"a": "b\\x"}': {"a": "b"},
    '{"a": "b\\u00x"}': {"a": "b"},
    '{"a": 1, "__proto__": 2}': {"a": 1},
    '{"constructor": {"a": 1, "prototype": 2}}': {"constructor": {"a": 1}},
}


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_what_is_no_json_object_is_told_as_far_as_it_was_one(text: str) -> None:
    partial = PartialObject()
    seen: dict[str, Any] = {}
    for piece in text:
        partial.feed(piece)
        seen = jsonpatch.apply_patch(seen, partial.patch())
    assert partial.broken
    assert not partial.whole
    assert seen == NO_OBJECTS[text]


def test_what_is_nested_too_deep_is_broken() -> None:
    partial = PartialObject()
    partial.feed('{"a":' * (DEEPEST + 1))
    assert partial.broken
