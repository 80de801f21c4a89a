from __future__ import annotations

import pytest

from db.oauth import devices
from tests.server.oauth.conftest import inn, person

__all__ = ["inn", "person"]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for its person asks again after a second rather than five."""
    monkeypatch.setattr(devices, "INTERVAL", 1)
