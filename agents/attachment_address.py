"""What a message calls a file by, apart from what reads it: an edge can name one without a model's libraries."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

_ADDRESS: Final = re.compile(r"innkeeper://projects/([0-9a-f-]{36})/files/([0-9a-f-]{36})", re.ASCII)


def address(project_id: UUID, file_id: UUID) -> str:
    """The address of a file in messages; also that of its MCP resource."""
    return f"innkeeper://projects/{project_id}/files/{file_id}"


def ids(url: str) -> tuple[str, str] | None:
    """The ids of project and file in an :func:`address`, ``None`` for any other text."""
    found = _ADDRESS.fullmatch(url)
    return None if found is None else (found[1], found[2])
