from __future__ import annotations

from tests.db.owners import folder, made, template
from tests.db.product import product

__all__ = ["folder", "made", "product", "template"]
