from __future__ import annotations

from tests.tools.desk import desk, with_rules
from tests.tools.office import office
from tests.tools.shelf import shelf

__all__ = ["desk", "office", "shelf", "with_rules"]
