from __future__ import annotations

from tests.db.owners import folder, made, template

__all__ = ["folder", "made", "template"]
