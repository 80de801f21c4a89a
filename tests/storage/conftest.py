"""One S3-compatible server a process of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.weed import Weed, weed


@pytest.fixture(scope="session")
def s3() -> Iterator[Weed]:
    with weed() as running:
        yield running
