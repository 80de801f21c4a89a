from __future__ import annotations

import time
from itertools import pairwise
from uuid import RFC_4122

import pytest

from db.ids import uuid7


def test_ids_are_uuids_of_version_7_that_sort_by_when_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for moment in (1, 1_000, 999_999, 1_000_000, 1_795_000_000_123_456_789):
        monkeypatch.setattr(time, "time_ns", lambda now=moment: now)
        made += [uuid7() for _ in range(20)]
        assert all(one.int >> 80 == moment // 1_000_000 for one in made[-20:])
    assert {(one.version, one.variant) for one in made} == {(7, RFC_4122)}
    assert len(set(made)) == len(made)
    groups = [made[start : start + 20] for start in range(0, len(made), 20)]
    assert all(max(before) < min(after) for before, after in pairwise(groups))
