from __future__ import annotations

from tests.server.oauth.conftest import inn, person

__all__ = ["inn", "person"]
